"""Reports made by hand, with every field in use, and poor ones."""

from __future__ import annotations

import numpy as np

from onnxsqueeze.facts.records import (
    Change,
    Coverage,
    Fidelity,
    Footprint,
    Interval,
    Latency,
    Machine,
    Memory,
    Placed,
    Placement,
    Validation,
)
from onnxsqueeze.numerics.density import describe
from onnxsqueeze.report.types import (
    ActivationRow,
    Distribution,
    FrozenRow,
    LeftAlone,
    ModelSummary,
    Report,
    ScalingRow,
    WeightRow,
    WidthRow,
)

HOSTILE = "</script><img src=x onerror=alert(1)>"
LONG = "<b>" + "encoder_layer_attention_output_dense_" * 5 + HOSTILE
"""Over 200 characters without a place to break, with markup."""

MACHINE = Machine(
    processor="AMD EPYC 7B12",
    features=("avx2", "fma"),
    cores=2,
    memory_bytes=8_000_000_000,
    system="Linux 6.1",
    versions={"onnxruntime": "1.32.0", "numpy": "2.4.6", "onnx": "1.23.2"},
    providers=("CPUExecutionProvider",),
)


def summary(path="model.onnx", size_bytes=10_857_958, **changed):
    fields = {
        "path": path,
        "sha256": "3f2a91" + "0" * 58,
        "size_bytes": size_bytes,
        "nodes": 440,
        "parameters": 2_690_407,
        "multiply_adds": 1_234_567_890,
        "opset": 21,
        "producer": "pytorch 2.13",
        "operators": {"Conv": 38, "Mul": 107, "Add": 107, "MatMul": 9},
        "bytes_by_cause": {
            "Conv weights": 6_607_120,
            "MatMul weights": 4_101_600,
            "biases and other constants": 53_068,
            "graph structure": 96_170,
        },
    }
    return ModelSummary(**{**fields, **changed})


def distribution(values):
    found = describe(values, bins=48)
    return Distribution(
        centers=tuple(found.histogram.centers.tolist()),
        density=tuple(found.histogram.density.tolist()),
        fits={name: tuple(fit.tolist()) for name, fit in found.fits.items()},
        best_fit=found.best_fit,
        distances=found.distances,
    )


def weights(count=24):
    rng = np.random.default_rng(0)
    rows = []
    for k in range(count):
        form, bits = [("stored", 8), ("stored", 4), ("float16", 16), ("float", 32), ("qdq", 8)][
            k % 5
        ]
        values = rng.laplace(0, 0.05, 4000) if k % 2 else rng.normal(0, 0.03 + k / 300, 4000)
        before = 1_400_000 // (k + 1)
        rows.append(
            WeightRow(
                name=f"backbone.stage{k // 6}.block{k % 6}.depthwise_separable.conv.weight",
                node=f"/backbone/stage{k // 6}/block{k % 6}/Conv",
                operator="MatMul" if k % 7 == 3 else "Conv",
                shape=(64 + k, 32, 3, 3),
                bytes_before=before,
                bytes_after=before * bits // 32,
                form=form,
                bits=bits,
                zeros_fraction=0.0125 * (k % 3),
                sqnr_db=None if form == "float" else 20.5 + k,
                damage=None if k == 5 else 0.00037 * (k + 1) ** 2,
                reason=f"{bits} bits keep the output within the budget: damage {k}.7e-4 of 1e-2",
                distribution=distribution(values) if k < 6 else None,
            )
        )
    return tuple(rows)


def placed():
    """Return where both models run: the original on one provider, the result on two."""
    cpu, gpu = "CPUExecutionProvider", "CUDAExecutionProvider"
    original = Placement(
        optimized_operators={"Conv": 38},
        providers={cpu: {"Conv": 38, "Softmax": 1}},
        milliseconds={cpu: {"Conv": 11.0, "Softmax": 0.5}},
    )
    result = Placement(
        optimized_operators={"Conv": 28, "QLinearConv": 10},
        providers={cpu: {"QLinearConv": 10}, gpu: {"Conv": 28, "Softmax": 1}},
        milliseconds={cpu: {"QLinearConv": 2.0}, gpu: {"Conv": 5.75, "Softmax": 0.25}},
    )
    return Placed(provider="cuda", original=original, result=result)


def full():
    """Return a report with every optional part."""
    ranges = distribution(np.random.default_rng(2).normal(2.0, 1.5, 4000))
    footprints = Footprint(resident_bytes=40_000_000, peak_bytes=90_000_000)
    memory = Memory(provider="cpu", original=footprints, result=footprints)
    grid = compress().activations[0]
    return compress(
        activations=(grid.model_copy(update={"distribution": ranges}),),
        widths=(
            WidthRow(name="stem.channels", kept=24, count=32, reason="least error after repair"),
            WidthRow(name="head.neurons", kept=96, count=256, reason="least error after repair"),
        ),
        scalings=(
            ScalingRow(
                name="stem.normed",
                entries=64,
                low=0.25,
                high=8.0,
                inserted=False,
                reason="by activations: 4.2 dB less error of what reads it",
            ),
            ScalingRow(
                name="head.gelu",
                entries=128,
                low=0.5,
                high=2.0,
                inserted=True,
                reason="by ranges: 1.1 dB less error of what reads it",
            ),
        ),
        frozen=(
            FrozenRow(weight="stem.weight", axes=(1, 2), reason="it is an input of the model"),
            FrozenRow(weight="head.weight", axes=(0,), reason="it is an output of the model"),
        ),
        validation=validation(placements=(placed(),), memory=(memory,)),
    )


def sized(count, name="tensor"):
    """Return a full report of a model with so many weights, all of whose names begin alike."""
    report, names = full(), [f"{name}{k}" for k in range(count)]
    shown = report.validation

    def rows(row, field, **more):
        return tuple(row.model_copy(update={field: one, "reason": one, **more}) for one in names)

    def placements(placed):
        many = {provider: dict.fromkeys(names[:30], 1) for provider in placed.providers}
        return placed.model_copy(update={"providers": many})

    drawn = tuple(
        row.model_copy(update={"name": one, "node": one, "operator": names[0], "reason": one})
        for one, row in zip(names, weights(24) * (count // 24 + 1), strict=False)
    )
    (fidelity, _), (where,) = shown.fidelity, shown.placements
    return report.model_copy(
        update={
            "headline": names[0],
            "original": summary(names[0], operators=dict.fromkeys(names[:30], 1)),
            "weights": drawn,
            "activations": rows(report.activations[0], "name"),
            "widths": rows(report.widths[0], "name"),
            "scalings": rows(report.scalings[0], "name"),
            "frozen": rows(report.frozen[0], "weight"),
            "left_alone": rows(report.left_alone[0], "subject"),
            "changes": tuple(
                report.changes[0].model_copy(update={"subject": one, "before": one, "after": one})
                for one in names
            ),
            "files": {"model": names[0]},
            "validation": shown.model_copy(
                update={
                    "fidelity": (fidelity.model_copy(update={"metric": names[0]}),),
                    "coverage": (shown.coverage[1].model_copy(update={"missing": tuple(names)}),),
                    "placements": (where.model_copy(update={"result": placements(where.result)}),),
                }
            ),
        }
    )


def validation(**changed):
    rng = np.random.default_rng(1)
    original = 12.3 + rng.normal(0, 0.2, 60)
    result = original / (1.184 + rng.normal(0, 0.02, 60))
    fidelity = Fidelity(
        metric="top1",
        provider="cpu",
        optimization="default",
        samples=512,
        original=0.9812,
        result=0.9789,
        drop=Interval(value=0.00234, low=0.00051, high=0.00478),
        sqnr_db={"logits": 31.7, "features": 999.0},
        scores_original=(1.0, 0.0, 1.0),
        scores_result=(1.0, 0.0, 0.0),
    )
    fields = {
        "fidelity": (
            fidelity,
            fidelity.model_copy(update={"optimization": "off", "result": 0.9791}),
        ),
        "latency": (
            Latency(
                provider="cpu",
                threads=1,
                original_ms=tuple(original.tolist()),
                result_ms=tuple(result.tolist()),
                original_wall_ms=tuple((original * 1.01).tolist()),
                result_wall_ms=tuple((result * 1.01).tolist()),
                speedup=Interval(value=1.184, low=1.171, high=1.197),
                verdict="faster",
            ),
        ),
        "placement_original": Placement(
            optimized_operators={"Conv": 38}, providers={"CPUExecutionProvider": {"Conv": 38}}
        ),
        "placement_result": Placement(
            optimized_operators={"Conv": 28, "QLinearConv": 10, "MatMul": 9},
            providers={"CPUExecutionProvider": {"Conv": 28, "QLinearConv": 10, "MatMul": 9}},
        ),
        "coverage": (
            Coverage(form="stored", planned=19, done=19, missing=()),
            Coverage(form="qdq", planned=5, done=4, missing=("backbone.stem.conv",)),
        ),
        "original_bytes": 10_857_958,
        "result_bytes": 2_790_114,
        "original_load_ms": 48.6,
        "result_load_ms": 61.2,
        "machine": MACHINE,
    }
    return Validation(**{**fields, **changed})


def compress(**changed):
    fields = {
        "kind": "compress",
        "version": "0.1.0",
        "created": "2026-11-24T06:54:02Z",
        "command": "onnxsqueeze compress model.onnx --data calib.npz --max-drop 1% -o small.onnx",
        "seconds": {
            "load": 1.25,
            "measure": 14.5,
            "plan": 33.75,
            "apply": 0.875,
            "validate": 21.5,
        },
        "original": summary(),
        "result": summary(
            "small.onnx",
            2_790_114,
            nodes=488,
            bytes_by_cause={
                "Conv weights": 1_651_780,
                "MatMul weights": 1_025_400,
                "biases and other constants": 13_267,
                "graph structure": 99_667,
            },
        ),
        "verdict": "met",
        "headline": "3.89× smaller and 1.18× faster, top1 lost 0.23% of an allowed 1%",
        "max_drop": 0.01,
        "metric": "top1",
        "validation": validation(),
        "weights": weights(),
        "activations": (
            ActivationRow(
                name="stem.out",
                low=-1.5,
                high=6.25,
                minimum=-1.625,
                maximum=9.5,
                reason="least squares",
            ),
        ),
        "left_alone": (
            LeftAlone(subject="head.weight", reason="kept by --keep head.*"),
            LeftAlone(subject="/lstm/LSTM", reason="LSTM has no integer kernel"),
            LeftAlone(subject="/lstm/LSTM_1", reason="LSTM has no integer kernel"),
        ),
        "changes": (
            Change(
                step="fold batch norm",
                subject="/stem/Conv",
                outcome="done",
                before="Conv, BatchNormalization",
                after="Conv",
            ),
            Change(
                step="clean up",
                subject="the graph",
                outcome="undone",
                before="440 nodes",
                after="shape of 'y' changed",
            ),
        ),
        "notes": ("no saving left under the budget: head.weight would lose 2.1%",),
        "data": "calib.npz, sha256 77aa01",
        "calibration_samples": 256,
        "evaluation_samples": 512,
        "machine": MACHINE,
        "files": {"model": "small.onnx", "report": "small.squeeze/report.html"},
    }
    return Report(**{**fields, **changed})


def inspect(**changed):
    fields = {
        "kind": "inspect",
        "command": "onnxsqueeze inspect model.onnx",
        "result": None,
        "verdict": "none",
        "headline": "10.9 MB, of which 98.6% are weights",
        "max_drop": None,
        "metric": None,
        "validation": None,
        "activations": (),
        "changes": (),
        "notes": (),
        "data": None,
        "calibration_samples": 0,
        "evaluation_samples": 0,
        "machine": None,
        "files": {},
        "weights": tuple(
            row.model_copy(update={"form": "float", "bits": 32, "bytes_after": row.bytes_before})
            for row in weights()
        ),
    }
    return compress(**{**fields, **changed})


def bare():
    """Return the poorest report that is valid: nothing was found, done or measured."""
    nothing = summary(operators={}, bytes_by_cause={}, multiply_adds=None, parameters=0, nodes=0)
    return inspect(weights=(), left_alone=(), seconds={}, original=nothing)

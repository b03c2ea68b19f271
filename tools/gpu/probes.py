"""Small models that show what a provider does with each form, with a bound on its error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.config import Provider
from onnxsqueeze.passes.to_float16 import ToFloat16Pass
from onnxsqueeze.runtime import ort

Array = npt.NDArray[Any]
UNIT = 2.0**-11
"""Relative error of rounding to float16, and to the TF32 that CUDA multiplies float32 in."""
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
CONV = """g (float[1, 32, 28, 28] x) => (float[1, 32, 28, 28] y) {
  y = Conv <pads = [1, 1, 1, 1]> (x, w)
}"""
PRODUCT = "g (float[8, 256] x) => (float[8, 256] y) { y = MatMul(x, w) }"
BLOCKS = """g (float[8, 256] x) => (float[8, 256] y) {
  f = DequantizeLinear <axis = 0, block_size = 32> (w, s)
  y = MatMul(x, f)
}"""
QDQ = """g (float[1, 32, 28, 28] x) => (float[1, 32, 28, 28] y) {
  a = QuantizeLinear(x, xs, xz)
  b = DequantizeLinear(a, xs, xz)
  f = DequantizeLinear <axis = 0> (w, ws, wz)
  c = Conv <pads = [1, 1, 1, 1]> (b, f)
  d = QuantizeLinear(c, ys, xz)
  y = DequantizeLinear(d, ys, xz)
}"""


@dataclass(frozen=True)
class Probe:
    """A model, what it is run on, and how far two right kernels may be apart on it.

    Attributes:
        name: What it shows.
        model: Its one large operator is what is looked at.
        feed: Its input.
        most: Bound on the root mean square of the difference, relative to the output's.
        operator: The operator looked at, as it is written.
    """

    name: str
    model: ir.Model
    feed: dict[str, Array]
    most: float
    operator: str


@dataclass(frozen=True)
class Found:
    """What a probe showed on a provider.

    Attributes:
        runs_on: Provider that the operator was given to.
        kernels: What really ran there, by the profile.
        error: Root mean square of the difference to the CPU without optimization, relative.
        most: The probe's bound on it.
    """

    runs_on: str
    kernels: tuple[str, ...]
    error: float
    most: float


def probes() -> list[Probe]:
    """Return all probes, the same on every machine."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 32, 28, 28)).astype(np.float32)
    rows = rng.standard_normal((8, 256)).astype(np.float32)
    kernel = (rng.standard_normal((32, 32, 3, 3)) / 17).astype(np.float32)
    matrix = (rng.standard_normal((256, 256)) / 16).astype(np.float32)
    codes = rng.integers(-7, 8, (256, 256)).astype(np.int8)
    scales = (rng.random((8, 256)) / 64 + 0.01).astype(np.float32)
    # Independent roundings of x and w, and of y in float16: at most 3 * UNIT, and what float32
    # sums of a few hundred terms add is far below another UNIT.
    made: list[tuple[str, ir.Model, dict[str, Array], str]] = [
        ("Conv, float32", _model(CONV, w=kernel), {"x": image}, "Conv"),
        ("MatMul, float32", _model(PRODUCT, w=matrix), {"x": rows}, "MatMul"),
        ("Conv, float16", _half(_model(CONV, w=kernel)), {"x": image}, "Conv"),
        ("MatMul, float16", _half(_model(PRODUCT, w=matrix)), {"x": rows}, "MatMul"),
    ]
    found = [Probe(name, model, feed, 4 * UNIT, op) for name, model, feed, op in made]
    blocks = _half(_model(BLOCKS, w=codes, s=scales))
    # MatMulNBits of the CPU rounds x to 8 bits in blocks: a step of max / 127, uniform in it.
    steps = float(np.abs(rows).max()) / 127 / np.sqrt(12)
    found.append(
        Probe("MatMulNBits, int8 blocks", blocks, {"x": rows}, 4 * UNIT + steps, "MatMul")
    )
    for name, dtype in (("affine uint8", np.uint8), ("symmetric int8", np.int8)):
        found.append(_qdq(f"QDQ Conv, {name}", image, kernel, dtype))
    return found


def _qdq(name: str, image: Array, kernel: Array, dtype: Any) -> Probe:
    zero = np.array(128 if dtype is np.uint8 else 0, dtype)
    ws = np.abs(kernel).max(axis=(1, 2, 3)) / np.float32(127)
    codes = np.rint(kernel / ws[:, None, None, None]).astype(np.int8)
    y_most = 6.0  # of a standard normal output
    ys = np.float32(y_most / 127)
    model = _model(
        QDQ,
        w=codes,
        ws=ws.astype(np.float32),
        wz=np.zeros(32, np.int8),
        xs=np.array(np.abs(image).max() / 127, np.float32),
        xz=zero,
        ys=np.array(ys),
    )
    # Codes of y may differ by one step where a sum lies on the border between two, on AVX2 the
    # sums themselves saturate: no more than a step at each place is right.
    return Probe(name, model, {"x": image}, float(ys), "Conv")


def _model(text: str, **weights: Array) -> ir.Model:
    """Parse a model whose weights are read as inputs, and become initializers here."""
    declared = ", ".join(
        f"{ir.DataType.from_numpy(value.dtype).name.lower()}"
        f"{list(value.shape) if value.ndim else ''} {name}"
        for name, value in weights.items()
    )
    model = ir.from_onnx_text(HEAD + text.replace(" x)", f" x, {declared})", 1))
    inputs = {str(value.name): value for value in model.graph.inputs}
    for name, value in weights.items():
        model.graph.inputs.remove(inputs[name])
        inputs[name].const_value = ir.tensor(value, name=name)
        model.graph.register_initializer(inputs[name])
    return model


def _half(model: ir.Model) -> ir.Model:
    return ToFloat16Pass()(model).model


def shown(probe: Probe, provider: Provider, placed: Callable[..., Any]) -> Found:
    """Return what a probe shows on a provider; ``placed`` is ``measure.placement.placement``."""
    reference = ort.run(ort.session(probe.model, optimization="off"), probe.feed)["y"]
    made = ort.session(probe.model, provider=provider)
    output = ort.run(made, probe.feed)["y"]
    where = placed(probe.model, provider, probe.feed)
    runs_on = next(
        (name for name, nodes in where.providers.items() if probe.operator in nodes),
        next(iter(where.providers), ""),
    )
    difference = np.sqrt(np.mean((output - reference).astype(np.float64) ** 2))
    size = np.sqrt(np.mean(reference.astype(np.float64) ** 2))
    kernels = tuple(sorted({one for times in where.milliseconds.values() for one in times}))
    return Found(runs_on, kernels, float(difference / size), probe.most)

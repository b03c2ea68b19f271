"""Train a network 784-128-10, export it, prune and quantize it in several ways, and compare.

usage: python tools/recipes/digits_mlp.py [--epochs 30] [--max-drop 1%] [--out out/digits_mlp]

The digits are scikit-learn's, enlarged to 28x28: nothing is downloaded. Needs the extras
``models`` and ``cpu``. A minute on one core; one table at the end.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

import onnxsqueeze as sq
from onnxsqueeze.config import Importance

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import make_models

Array = npt.NDArray[Any]

WAYS: dict[str, sq.Limits] = {
    "float16": sq.Limits(prune="off", bits=(16,)),
    "quantized": sq.Limits(prune="off"),
    **{
        f"pruned by {name}, quantized": sq.Limits(prune="on", importance=name)
        for name in get_args(Importance)
        if name in ("l1", "taylor", "information", "obs")
    },
}
"""Each way of making the model smaller, in the order of the table."""


@dataclass(frozen=True)
class Line:
    """A row of the table: what was done, and what came of it on digits that nothing had seen."""

    way: str
    size_bytes: int
    hidden: int
    accuracy: float
    is_met: bool


def trained(folder: Path, epochs: int) -> Path:
    """Train and export the network, with its samples beside it; return the model's path."""
    torch.manual_seed(make_models.SEED)
    make_models.make(make_models.mlp, epochs, (make_models.SIDE**2,), folder)
    return folder / "model.onnx"


def accuracy(model: Path, images: Array, labels: Array) -> float:
    """Return the share of digits that a file tells right."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    rows = images.reshape(len(images), -1)
    (logits,) = session.run(None, {session.get_inputs()[0].name: rows})
    return float((np.asarray(logits).argmax(1) == labels).mean())


def hidden(model: Path) -> int:
    """Return how many of the 128 neurons a file still has: those that its first product makes."""
    session = onnxruntime.InferenceSession(
        with_every_value(model), providers=["CPUExecutionProvider"]
    )
    row = np.zeros((1, make_models.SIDE**2), np.float32)
    values = session.run(None, {session.get_inputs()[0].name: row})
    dims = [value.shape[-1] for value in values if value.ndim == 2 and value.shape[0] == 1]
    return max(dim for dim in dims if dim <= 128)


def with_every_value(model: Path) -> bytes:
    """Return the model with the outputs of its activation nodes as outputs, too."""
    import onnx

    proto = onnx.load(model)
    for node in proto.graph.node:
        if node.op_type == "Relu":
            proto.graph.output.add().name = node.output[0]
    return bytes(proto.SerializeToString())


def compared(folder: Path, max_drop: float, ways: dict[str, sq.Limits]) -> list[Line]:
    """Compress the folder's model in each way, within the same budget."""
    model = folder / "model.onnx"
    with np.load(folder / "eval.npz") as held_out:
        images, labels = held_out["image"], held_out["labels"]
    lines = [Line("float", model.stat().st_size, 128, accuracy(model, images, labels), True)]
    for number, (way, limits) in enumerate(ways.items()):
        small = folder / f"small-{number}.onnx"
        made = sq.compress(
            model,
            small,
            sq.DataSettings(str(folder / "calib.npz")),
            budget=sq.Budget(max_drop=max_drop),
            target=sq.Target(objective="size"),
            limits=limits,
            run=folder / f"small-{number}.squeeze",
        )
        found = accuracy(small, images, labels)
        lines.append(Line(way, small.stat().st_size, hidden(small), found, made.is_met))
    return lines


def table(lines: list[Line]) -> str:
    """Return the lines as text in columns."""
    whole = lines[0].size_bytes
    rows = [f"{'':<32}{'bytes':>9}{'smaller':>9}{'neurons':>9}{'accuracy':>10}  budget"]
    rows += [
        f"{one.way:<32}{one.size_bytes:>9}{whole / one.size_bytes:>8.2f}×{one.hidden:>9}"
        f"{one.accuracy:>10.4f}  {'met' if one.is_met else 'not met'}"
        for one in lines
    ]
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compress a 784-128-10 network in several ways.")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--max-drop", default="1%", help="as 1%% or 0.01")
    parser.add_argument("--out", type=Path, default=Path("out/digits_mlp"))
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    asked = parser.parse_args(arguments)
    percent = asked.max_drop.endswith("%")
    max_drop = float(asked.max_drop.rstrip("%")) / (100 if percent else 1)
    trained(asked.out, asked.epochs)
    print(table(compared(asked.out, max_drop, {way: WAYS[way] for way in asked.ways})))


if __name__ == "__main__":
    main()

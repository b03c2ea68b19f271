"""A small model taken for a large one: the same flow, in the memory of one weight."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from onnxsqueeze import Budget, DataSettings, Limits, api
from onnxsqueeze.graph import io, walk
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.runtime import ort
from tests import models

KILLED = Path(__file__).with_name("killed_large.py")
DECODER = """
g (float[N,S,128] x) => (float[N,S,64] y)
<float[128,128] w, float[128,128] u, float[128,256] v, float[256,64] t, float[64] b> {
  a = MatMul (x, w)
  r = Tanh (a)
  c = MatMul (x, u)
  s = Add (r, c)
  d = MatMul (s, v)
  e = Tanh (d)
  f = MatMul (e, t)
  y = Add (f, b)
}"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with model.onnx, its weights beside it, and data.npz."""
    io.write(models.read(DECODER, tmp_path, 21, 10), tmp_path / "model.onnx", external=True)
    x = np.random.default_rng(5).standard_normal((48, 1, 7, 128)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    return tmp_path


def compressed(place: Path, data: bool, **budget: float) -> api.Compressed:
    return api.compress(
        place / "model.onnx",
        place / "small.onnx",
        DataSettings(place / "data.npz" if data else None),
        budget=Budget(**budget),
        limits=Limits(bits=(4,)),
        run=place / "run",
        large_bytes=0,
    )


def kernels(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in walk.nodes(ort.optimized(path)))


def test_without_samples_all_products_are_in_blocks_of_four_bits(place: Path) -> None:
    weights = (place / "model.onnx.data").read_bytes()

    made = compressed(place, data=False)

    assert made.is_met
    assert {choice.bits for choice in made.plan.weights.values()} == {4}
    assert kernels(place / "small.onnx")["MatMulNBits"] == len(made.plan.weights) == 4
    assert "budget" not in made.report.headline
    assert any("no budget was held" in note for note in made.report.notes)
    assert any(note.startswith("needs about") for note in made.report.notes)
    assert (place / "model.onnx.data").read_bytes() == weights
    assert not list((place / "run").rglob("*.data"))  # nor a copy of the weights


def test_without_samples_a_budget_that_was_asked_for_is_held(place: Path) -> None:
    made = compressed(place, data=False, max_drop=1e-4)

    assert not made.is_met
    x = models.feed(x=(3, 7, 128))
    expected = ort.run(ort.session(place / "model.onnx"), x)["y"]
    np.testing.assert_allclose(ort.run(ort.session(place / "small.onnx"), x)["y"], expected)


def test_the_result_is_what_the_plan_makes_of_the_model_in_memory(place: Path) -> None:
    made = compressed(place, data=True, max_drop=1.0)
    assert made.is_met
    assert {choice.rounding for choice in made.plan.weights.values()} == {"compensated"}

    measured = api.measure(
        place / "model.onnx", DataSettings(place / "data.npz"), run=place / "again"
    )
    at_once = apply(made.plan, measured.loaded.model, measured.facts.grams)

    x = models.feed(x=(3, 7, 128))
    expected = models.outputs(at_once.model, x)["y"]
    np.testing.assert_array_equal(models.outputs(place / "small.onnx", x)["y"], expected)


def test_weights_inside_the_model_are_moved_out_once(place: Path) -> None:
    io.write(io.read(place / "model.onnx"), place / "inside.onnx")
    made = api.compress(
        place / "inside.onnx",
        place / "small.onnx",
        limits=Limits(bits=(4,)),
        run=place / "run",
        large_bytes=0,
    )

    assert made.is_met
    assert kernels(place / "small.onnx")["MatMulNBits"] == 4


def killed(place: Path, before: int) -> int:
    command = [sys.executable, str(KILLED), str(before), str(place)]
    return subprocess.run(command, check=False).returncode


def records(place: Path, kind: str) -> set[str]:
    names = (path.parent.name for path in (place / "run/facts").glob(f"{kind}-*/record.json"))
    return {name for name in names if not name.endswith(".part")}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_half_way_it_goes_on_behind_the_last_weight(place: Path) -> None:
    assert killed(place, 1000) == 0
    whole = (place / "small.onnx").read_bytes()
    every = records(place, "codes")
    (place / "small.onnx").unlink()
    (place / "run").rename(place / "first")

    # The moves: the cleaned model, its record, shapes, three matrices, then weight by weight.
    assert killed(place, 9) == -signal.SIGKILL
    some = records(place, "codes")
    assert len(records(place, "gram")) == 3
    assert 0 < len(some) < len(every)
    assert not (place / "small.onnx").exists()
    stamps = {one: (place / "run" / "facts" / one / "arrays.npz").stat().st_mtime_ns
              for one in some}  # fmt: skip
    assert killed(place, 1000) == 0

    assert (place / "small.onnx").read_bytes() == whole
    for one, stamp in stamps.items():
        assert (place / "run" / "facts" / one / "arrays.npz").stat().st_mtime_ns == stamp


def test_products_that_become_a_float_gemm_are_not_in_blocks(place: Path) -> None:
    flat = DECODER.replace("[N,S,", "[N,")
    io.write(models.read(flat, place, 21, 10), place / "model.onnx", external=True)

    made = compressed(place, data=False)

    # ONNX Runtime makes a Gemm of u's product and the addition of r.
    forms = {name: choice.form for name, choice in made.plan.weights.items()}
    assert forms == {"w": "blockwise", "u": "stored", "v": "blockwise", "t": "blockwise"}
    assert kernels(place / "small.onnx")["MatMulNBits"] == 3

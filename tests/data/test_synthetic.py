from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.data import synthetic_samples
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec, signature
from onnxsqueeze.runtime.ort import run, session

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
m (int64[N, T] ids, float[N, T, 4] x, float[5, 4] w) => (float[N, T, 5] out) {
    wt = Transpose <perm = [1, 0]> (w)
    one = Constant <value_ints = [2]> ()
    idsf = Cast <to = 1> (ids)
    cols = Unsqueeze (idsf, one)
    y = Mul (x, cols)
    out = MatMul (y, wt)
}
"""


@pytest.mark.parametrize("dim", [1, 16, 64])
def test_real_session_takes_them(dim: int) -> None:
    model = ir.from_onnx_text(TEXT)

    samples = synthetic_samples(signature(model), 2, 0, dim=dim)

    outputs = run(session(model), samples[1])
    assert outputs["out"].shape == (1, dim, 5)
    assert np.any(samples[0]["x"] != samples[1]["x"])
    assert set(np.unique(samples[0]["ids"])) <= {0, 1}


def test_samples_depend_on_seed_and_index_only() -> None:
    specs = [InputSpec("x", np.dtype("float32"), ("N", 8))]

    few, many = synthetic_samples(specs, 2, 5), synthetic_samples(specs, 9, 5)

    np.testing.assert_array_equal(few[1]["x"], many[1]["x"])
    np.testing.assert_array_equal(few[1]["x"], few[1]["x"])
    assert few.fingerprint == many[:2].fingerprint
    assert few.fingerprint != synthetic_samples(specs, 2, 6).fingerprint


@pytest.mark.parametrize(
    "name", ["bool", "uint8", "int8", "int32", "uint64", "float16", "float64", "complex64"]
)
def test_every_type_fits_its_spec(name: str) -> None:
    spec = InputSpec("x", np.dtype(name), (2, None))

    (sample,) = synthetic_samples([spec], 1, 0, dim=50)

    assert sample["x"].dtype == spec.dtype
    assert sample["x"].shape == (2, 50)
    assert len(np.unique(sample["x"])) > 1
    assert np.all(sample["x"] >= 0) or spec.dtype.kind in "fc"


def test_text_and_scalars() -> None:
    specs = [InputSpec("s", np.dtype(object), ("N",)), InputSpec("r", np.dtype("float32"), ())]

    (sample,) = synthetic_samples(specs, 1, 0)

    assert sample["s"].tolist() == ["a"]
    assert sample["r"].shape == ()


def test_input_without_rank_is_refused() -> None:
    with pytest.raises(DataError, match="input 'x' has no rank"):
        synthetic_samples([InputSpec("x", np.dtype("float32"), None)], 1, 0)

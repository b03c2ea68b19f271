from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.facts.records import Coverage
from onnxsqueeze.passes.coverage import coverage, fallen_back
from onnxsqueeze.passes.insert_dynamic import InsertDynamicPass
from onnxsqueeze.passes.insert_qdq import InsertQdqPass
from onnxsqueeze.plan.types import ActivationChoice, Plan, WeightChoice

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'


def written(folder, text, change=lambda model: model, **initializers):
    model = ir.from_onnx_text(
        HEADER + text,
        initializers=[ir.tensor(value, name=name) for name, value in initializers.items()],
    )
    change(model)
    path = folder / "model.onnx"
    ir.save(model, path)
    return path


def plan(portable=False, activations=(), **forms):
    bits = {"float": 32, "float16": 16, "stored": 8, "qdq": 8, "dynamic": 8}
    return Plan(
        model_sha256="0" * 64,
        portable=portable,
        weights={
            name: WeightChoice(form=form, bits=bits[form], axis=0, reason="test")
            for name, form in forms.items()
        },
        activations={
            name: ActivationChoice(low=-4, high=4, reason="test") for name in activations
        },
    )


def weight(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_an_integer_kernel_counts_as_done(tmp_path):
    planned = plan(w="qdq", v="qdq", activations=["x", "y", "t"])
    path = written(
        tmp_path,
        """g (float[1,4,8] x) => (float[1,6,5] out) {
        y = Conv(x, w)  t = Tanh(y)  out = MatMul(t, v) }""",
        lambda model: InsertQdqPass(
            planned.model_copy(
                update={
                    "weights": {
                        **planned.weights,
                        "v": planned.weights["v"].model_copy(update={"axis": 1}),
                    }
                }
            )
        )(model),
        w=weight(6, 4, 1), v=weight(8, 5),
    )  # fmt: skip

    assert coverage(planned, path) == (Coverage(form="qdq", planned=2, done=2, missing=()),)


@pytest.mark.parametrize("portable", [False, True])
def test_a_kernel_over_grids_of_each_run_counts_as_done(tmp_path, portable):
    """The kernel of v is shared, that of w is one with its DynamicQuantizeLinear."""
    planned = plan(portable, w="dynamic", v="dynamic", u="dynamic")
    weights = {
        name: choice.model_copy(update={"axis": 1}) for name, choice in planned.weights.items()
    }
    planned = planned.model_copy(update={"weights": weights})
    path = written(
        tmp_path,
        """g (float[4,8] x) => (float[4,6] y, float[4,5] out) {
        a = MatMul(x, v)  b = MatMul(x, u)  y = Sub(a, b)  out = MatMul(y, w) }""",
        lambda model: InsertDynamicPass(planned)(model),
        v=weight(8, 6), u=2 * weight(8, 6), w=weight(6, 5),
    )  # fmt: skip

    assert coverage(planned, path) == (Coverage(form="dynamic", planned=3, done=3, missing=()),)


def test_an_integer_product_that_was_not_fused_is_named(tmp_path):
    """What follows is no Cast and Mul, so that the weight is read by MatMulInteger itself."""
    path = written(
        tmp_path,
        """g (float[4,8] x) => (int32[4,6] y) {
        q, s, z = DynamicQuantizeLinear(x)  y = MatMulInteger(q, w_int, z) }""",
        lambda model: [
            setattr(value, "name", value.name.replace("w_", "w."))
            for value in list(model.graph.initializers.values())
        ],
        w_int=np.ones((8, 6), np.uint8),
    )

    (row,) = coverage(plan(w="dynamic"), path)

    assert (row.form, row.done, row.missing) == ("dynamic", 0, ("w (MatMulInteger)",))


def test_weights_that_no_integer_kernel_reads_are_named(tmp_path):
    """A DequantizeLinear in front of a Conv with float activations is not folded; v is nowhere."""
    path = written(
        tmp_path,
        """g (float[1,4,8] x) => (float[1,6,8] y) {
        d = DequantizeLinear<axis=0>(w.int, w.scale, w.zero)  y = Conv(x, d) }""".replace(
            "w.", "w_"
        ),
        lambda model: [
            setattr(value, "name", value.name.replace("w_", "w."))
            for value in list(model.graph.initializers.values())
        ],
        w_int=np.ones((6, 4, 1), np.uint8), w_scale=np.ones(6, np.float32),
        w_zero=np.zeros(6, np.uint8),
    )  # fmt: skip

    (row,) = coverage(plan(w="qdq", v="qdq"), path)

    assert (row.planned, row.done) == (2, 0)
    assert row.missing == ("w (DequantizeLinear)", "v (not found)")


def stored(tmp_path, chain, **initializers):
    return written(
        tmp_path,
        f"g (float[1,4] x, float[1] z) => (float[1,6] y) {{ {chain}  y = MatMul(x, d) }}",
        lambda model: [
            setattr(value, "name", value.name.replace("w_", "w."))
            for value in list(model.graph.initializers.values())
        ],
        **initializers,
    )


CODES = np.ones((4, 6), np.int8)
SCALE = np.full((1, 6), 0.5, np.float32)


def test_a_folded_chain_counts_as_done(tmp_path):
    path = stored(
        tmp_path, "c = Cast<to=1>(w_int)  d = Mul(c, w_scale)", w_int=CODES, w_scale=SCALE
    )

    assert coverage(plan(w="stored", v="float"), path) == (
        Coverage(form="stored", planned=1, done=1, missing=()),
    )


def test_a_chain_that_is_left_is_named(tmp_path):
    """ONNX Runtime does not fold DequantizeLinear, which here feeds no integer kernel."""
    path = stored(
        tmp_path,
        "c = DequantizeLinear(w_int, w_scale)  d = Add(c, z)",
        w_int=CODES, w_scale=np.array(0.5, np.float32),
    )  # fmt: skip

    (row,) = coverage(plan(w="stored"), path)

    assert (row.form, row.planned, row.done, row.missing) == (
        "stored", 1, 0, ("w (DequantizeLinear)",),
    )  # fmt: skip
    assert coverage(plan(w="stored", portable=True), path) == ()


def test_rows_that_are_gathered_as_integers_count_as_done(tmp_path):
    path = written(
        tmp_path,
        """g (int64[3] x) => (float[3,6] y) {
        rows = Gather(w_int, x)  c = Cast<to=1>(rows)  y = Mul(c, w_scale) }""",
        lambda model: [
            setattr(value, "name", value.name.replace("w_", "w."))
            for value in list(model.graph.initializers.values())
        ],
        w_int=CODES, w_scale=SCALE,
    )  # fmt: skip

    assert coverage(plan(w="stored"), path)[0].done == 1


def test_float16_that_is_cast_when_loading_counts_as_done(tmp_path):
    path = stored(tmp_path, "d = Cast<to=1>(w_half)", w_half=CODES.astype(np.float16))

    assert coverage(plan(w="float16"), path) == (
        Coverage(form="float16", planned=1, done=1, missing=()),
    )


def test_a_plan_of_floats_has_nothing_to_cover(tmp_path):
    path = stored(tmp_path, "d = Identity(w)", w=CODES.astype(np.float32))

    assert coverage(plan(w="float"), path) == ()


def in_blocks(**fields):
    choice = {"form": "blockwise", "bits": 4, "block": 16, "axis": 1, "reason": "test", **fields}
    return Plan(model_sha256="0" * 64, weights={"w": WeightChoice(**choice)})


def dotted(model):
    """Name what is made of a weight as the pass does, which the text form cannot."""
    for value in list(model.graph.initializers.values()):
        value.name = value.name.replace("_", ".")


def test_a_product_of_blocks_that_is_not_fused_is_named(tmp_path):
    """alpha = 2 keeps ONNX Runtime from its kernel, and the weight is made floats at every run."""
    planned = in_blocks()
    nodes = "w0 = DequantizeLinear<axis=0, block_size=16>(w_int, w_scale)"
    path = written(
        tmp_path,
        f"g (float[4,32] x) => (float[4,6] out) {{ {nodes} out = Gemm<alpha=2.0>(x, w0) }}",
        dotted,
        w_int=np.zeros((32, 6), ml_dtypes.int4), w_scale=weight(2, 6),
    )  # fmt: skip

    (row,) = coverage(planned, path)

    assert (row.form, row.planned, row.done) == ("blockwise", 1, 0)
    assert row.missing == ("w (DequantizeLinear)",)
    assert "ONNX Runtime made another kernel" in fallen_back(planned, path)["w"]


def test_one_of_two_products_that_is_not_fused_is_enough(tmp_path):
    planned = in_blocks()
    nodes = "w0 = DequantizeLinear<axis=0, block_size=16>(w_int, w_scale)"
    path = written(
        tmp_path,
        f"""g (float[4,32] x) => (float[4,6] out) {{ {nodes}
        a = MatMul(x, w0)  t = Tanh(x)  b = MatMul(t, w0)  out = Add(a, b) }}""",
        dotted,
        w_int=np.zeros((32, 6), ml_dtypes.int4), w_scale=weight(2, 6),
    )  # fmt: skip

    (row,) = coverage(planned, path)

    assert row.done == 0

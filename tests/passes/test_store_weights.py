"""What a stored weight becomes when ONNX Runtime loads the model, to the last bit.

Codes and bfloat16 scales are exact in float32, so the only rounding is that of one float32
product, and IEEE 754 leaves no choice there: equality is exact. A float16 weight is rounded once
more, to the nearest, in both.
"""

from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.errors import PlanError
from onnxsqueeze.graph import walk
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.numerics.grid import as_rows, from_rows, largest_block
from onnxsqueeze.passes.round_weights import codes, needed, pruned
from onnxsqueeze.passes.store_weights import StoreWeightsPass
from onnxsqueeze.plan.types import Plan, WeightChoice
from onnxsqueeze.runtime import ort
from tests import models
from tests.runtime.made import made, random, run

HALF_MATMUL = """
g (float16[N,32] x) => (float16[N,24] y) <float16[32,24] w> { y = MatMul (x, w) }"""

READERS = {
    "MatMul": ("g (float[N,32] x) => (float[N,24] y) <float[32,24] w> { y = MatMul (x, w) }",
               {"x": (3, 32)}),
    "odd MatMul": ("g (float[N,27] x) => (float[N,11] y) <float[27,11] w> { y = MatMul (x, w) }",
                   {"x": (3, 27)}),
    "Gemm": (("g (float[N,32] x) => (float[N,24] y) <float[24,32] w> {"
             " y = Gemm <transB = 1> (x, w) }"), {"x": (3, 32)}),
    "Conv": ("g (float[N,4,6,6] x) => (float[] y) <float[16,4,3,3] w> { y = Conv (x, w) }",
             {"x": (2, 4, 6, 6)}),
    "grouped Conv": (("g (float[N,8,6] x) => (float[] y) <float[32,4,3] w> {"
                     " y = Conv <group = 2> (x, w) }"), {"x": (2, 8, 6)}),
    "ConvTranspose": (("g (float[N,4,6,6] x) => (float[] y) <float[4,16,3,3] w> {"
                      " y = ConvTranspose (x, w) }"), {"x": (2, 4, 6, 6)}),
    "batched MatMul": (("g (float[2,3,16] x) => (float[] y) <float[2,16,12] w> {"
                       " y = MatMul (x, w) }"), {"x": (2, 3, 16)}),
    "LSTM": (("g (float[5,1,16] x) => (float[] y, float[] h) <float[1,32,16] w, float[1,32,8] r> {"
             " y, h = LSTM <hidden_size = 8> (x, w, r) }"), {"x": (5, 1, 16)}),
    "two readers": (("g (float[N,16] x) => (float[N,16] y) <float[16,16] w> {"
                    " a = MatMul (x, w) b = Tanh (a) y = MatMul (b, w) }"), {"x": (3, 16)}),
    "float16": (HALF_MATMUL, {"x": (3, 32)}),
    "Gather": ("g (int64[N] x) => (float[N,24] y) <float[32,24] w> { y = Gather (w, x) }", None),
}  # fmt: skip


def plan(portable=False, **choices):
    return Plan(model_sha256="0" * 64, portable=portable, weights=choices)


def choice(form, bits, **fields):
    return WeightChoice(form=form, bits=bits, reason="test", **fields)


def subject(name):
    text, shapes = READERS[name]
    model = made(text)
    value = model.graph.initializers["w"]
    if name == "float16":  # small enough for scales that float16 cannot hold exactly
        model = made(text, w=(value.const_value.numpy() * 1e-3).astype(np.float16))
    dtype = np.float16 if name == "float16" else np.float32
    feed = {k: random(*s, dtype=dtype) for k, s in (shapes or {}).items()}
    axes = {weight.name: weight.axis for weight in weights(model)[0]}
    return model, feed or {"x": np.arange(5)}, axes["w"]


FORMS = {
    "float16": {"form": "float16", "bits": 16},
    "stored 8": {"form": "stored", "bits": 8},
    "stored 4": {"form": "stored", "bits": 4},
    "one scale": {"form": "stored", "bits": 8, "axis": None},
    "masked float": {"form": "float", "bits": 32, "masked": True, "prune_below": 0.1},
    "masked float16": {"form": "float16", "bits": 16, "masked": True, "prune_below": 0.1},
    "masked stored 8": {"form": "stored", "bits": 8, "masked": True, "prune_below": 0.1},
    "masked stored 4": {"form": "stored", "bits": 4, "masked": True, "prune_below": 0.1},
    "pruned float": {"form": "float", "bits": 32, "prune_below": 0.1},
}


def choice_of(form, axis, threshold=0.1):
    fields = {"axis": axis, **FORMS[form]}
    if fields["form"] != "stored":
        fields["axis"] = None
    if "prune_below" in fields:
        fields["prune_below"] = threshold
    return choice(**fields)


def coded(planned, values):
    return {
        name: codes(values[name], planned.weights[name], None) for name in needed(planned.weights)
    }


def expected(planned, values, rounded):
    """What NumPy makes of each weight."""
    found = {}
    for name, one in planned.weights.items():
        w = values[name]
        if one.form == "stored":
            w = rounded[name].values(w.shape, one.axis).astype(w.dtype)
        else:
            w = pruned(w, one.prune_below)
            w = w.astype(np.float16).astype(w.dtype) if one.form == "float16" else w
        found[name] = w
    return found


def stored(model, planned):
    values = models.constants(model)
    rounded = coded(planned, values)
    copy = model.clone()
    result = StoreWeightsPass(planned, rounded)(copy)
    verify(copy)
    return copy, result.modified, expected(planned, values, rounded)


def with_weights(model, values):
    copy = model.clone()
    for _, value in walk.initializers(copy):
        if value.name in values:
            value.const_value = ort.ir.tensor(values[value.name], name=value.name)
    return copy


def restored(model, name="w"):
    """What the chain of a weight computes, as written, one node after the other."""
    last = [node for node in model.graph if node.name.startswith(f"{name}.")][-1]
    output = last.outputs[0].name
    alone = ort.expose(model, [output])
    alone.graph.inputs.clear()
    return run(alone, {}, "off")[output]


def check(model, feed, planned):
    copy, modified, values = stored(model, planned)
    assert modified
    reference = with_weights(model, values)
    for level in ("basic", "default"):
        plain, folded = ort.optimized(reference, level), ort.optimized(copy, level)
        assert models.operators(folded) == models.operators(plain)
        mine = sorted(a.tobytes() for a in models.constants(folded).values() if a.size > 8)
        theirs = sorted(a.tobytes() for a in models.constants(plain).values() if a.size > 8)
        assert mine == theirs
    before, after = run(reference, feed), run(copy, feed)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    return copy, values


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reader", READERS)
def test_the_loaded_weight_is_the_one_that_was_planned(reader, form):
    model, feed, axis = subject(reader)
    threshold = float(np.median(np.abs(models.constants(model)["w"])))
    planned = plan(w=choice_of(form, axis, threshold))
    copy, values = check(model, feed, planned)
    if form != "pruned float":
        np.testing.assert_array_equal(restored(copy), values["w"])
        assert restored(copy).dtype == values["w"].dtype
        assert "w" not in copy.graph.initializers


@pytest.mark.parametrize("bits", [2, 3, 5, 6, 7, 10, 12])
@pytest.mark.parametrize("reader", ["MatMul", "odd MatMul", "Conv", "float16"])
def test_other_widths_are_put_together_from_planes(reader, bits):
    model, feed, axis = subject(reader)
    copy, values = check(model, feed, plan(w=choice("stored", bits, axis=axis)))
    np.testing.assert_array_equal(restored(copy), values["w"])


@pytest.mark.parametrize(
    ("bits", "masked"), [(4, False), (4, True), (8, False), (8, True), (2, False), (3, False)]
)
@pytest.mark.parametrize("reader", ["MatMul", "Gemm"])
def test_blocks_along_the_summed_axis(reader, bits, masked):
    model, feed, axis = subject(reader)
    one = choice(
        "stored", bits, axis=axis, block=16, masked=masked, prune_below=0.1 if masked else None
    )
    copy, values = check(model, feed, plan(w=one))
    np.testing.assert_array_equal(restored(copy), values["w"])


def test_blocks_of_a_convolution_lie_in_its_rows():
    model, feed, axis = subject("Conv")
    block = largest_block(36, 16)
    copy, values = check(model, feed, plan(w=choice("stored", 4, axis=axis, block=block)))
    np.testing.assert_array_equal(restored(copy), values["w"])


def test_a_negative_axis_is_counted_from_the_end():
    model, feed, _ = subject("MatMul")
    check(model, feed, plan(w=choice("stored", 8, axis=-1)))
    check(model, feed, plan(w=choice("stored", 4, axis=-1, block=16)))


@pytest.mark.parametrize("form", ["masked float", "masked float16", "masked stored 8", "stored 4"])
def test_a_weight_of_zeros(form):
    model, feed, axis = subject("odd MatMul")
    model = with_weights(model, {"w": np.zeros((27, 11), np.float32)})
    copy, _ = check(model, feed, plan(w=choice_of(form, axis)))
    assert not restored(copy).any()


@pytest.mark.parametrize("opset", [13, 17])
def test_the_bit_mask_needs_no_new_opset(opset):
    model = made(READERS["odd MatMul"][0], opset=opset)
    one = choice("stored", 8, axis=1, masked=True, prune_below=0.1)
    check(model, {"x": random(3, 27)}, plan(w=one))


def with_uneven_columns(model, axis):
    """Make a few of the weight's columns so large that they pay for scales of their own."""
    w = models.constants(model)["w"]
    rows = as_rows(w.copy(), axis)
    rows[:, :: max(2, rows.shape[1] // 3)] *= 50
    return with_weights(model, {"w": from_rows(rows, w.shape, axis)})


COLUMNS = [
    *[(reader, 4, None, False) for reader in READERS],
    *[("MatMul", bits, None, False) for bits in (2, 3, 5, 6, 7, 8, 10, 12)],
    *[("float16", bits, None, False) for bits in (3, 6, 8)],
    *[("MatMul", bits, 16, False) for bits in (2, 3, 4, 8)],
    *[("Gemm", bits, 16, False) for bits in (3, 4, 8)],
    ("float16", 4, 16, False), ("Conv", 4, 12, False), ("grouped Conv", 3, 6, False),
    ("MatMul", 4, None, True), ("Gemm", 8, 16, True), ("Conv", 8, None, True),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "bits", "block", "masked"), COLUMNS)
def test_columns_are_multiplied_along_the_other_axes(reader, bits, block, masked):
    model, feed, axis = subject(reader)
    model = with_uneven_columns(model, axis)
    below = float(np.median(np.abs(models.constants(model)["w"]))) if masked else None
    one = choice(
        "stored", bits, axis=axis, block=block, columns=True, masked=masked, prune_below=below
    )
    assert coded(plan(w=one), models.constants(model))["w"].column is not None
    copy, values = check(model, feed, plan(w=one))
    np.testing.assert_array_equal(restored(copy), values["w"])
    assert restored(copy).dtype == values["w"].dtype


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -4])
def test_columns_go_with_every_axis(axis):
    # No row of the operator table takes each of these; the nodes must spell them all the same.
    model, feed, _ = subject("Conv")
    model = with_uneven_columns(model, axis)
    copy, values = check(model, feed, plan(w=choice("stored", 6, axis=axis, columns=True)))
    np.testing.assert_array_equal(restored(copy), values["w"])
    shape = copy.graph.initializers["w.column"].const_value.shape.numpy()
    assert shape == tuple(1 if i == axis % 4 else dim for i, dim in enumerate((16, 4, 3, 3)))


def test_columns_that_do_not_pay_are_not_stored():
    model, feed, axis = subject("MatMul")
    model = with_weights(model, {"w": np.ones((32, 24), np.float32)})
    copy, _ = check(model, feed, plan(w=choice("stored", 4, axis=axis, columns=True)))
    assert "w.column" not in copy.graph.initializers


# DequantizeLinear is a kernel of its own, and multiplies as above.
PORTABLE = [
    ("MatMul", 8, None), ("MatMul", 4, None), ("MatMul", 4, 16), ("Gemm", 4, 16),
    ("Gemm", 8, None), ("Conv", 8, None), ("ConvTranspose", 8, None), ("LSTM", 8, None),
    ("float16", 8, None), ("float16", 4, 16),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "bits", "block"), PORTABLE)
def test_portable_weights_are_spelled_as_dequantize_linear(reader, bits, block):
    model, feed, axis = subject(reader)
    planned = plan(portable=True, w=choice("stored", bits, axis=axis, block=block))
    copy, modified, values = stored(model, planned)
    assert modified
    added = [node.op_type for node in copy.graph if node.name.startswith("w.")]
    assert added == ["DequantizeLinear"] + (["Cast"] if reader == "float16" else [])
    np.testing.assert_array_equal(restored(copy), values["w"])
    after = run(copy, feed, "off")
    for name, value in run(with_weights(model, values), feed, "off").items():
        np.testing.assert_allclose(after[name], value, rtol=1e-3, atol=1e-5)


def test_a_portable_weight_with_one_scale():
    model, _, _ = subject("MatMul")
    copy, _, values = stored(model, plan(portable=True, w=choice("stored", 8)))
    np.testing.assert_array_equal(restored(copy), values["w"])


def branches():
    numbers = ", ".join(str(round(x, 3)) for x in random(64).tolist())
    return made(f"""
    g (float[N,8] x, bool c) => (float[N,8] y) <float[8,8] w> {{
      h = Tanh (x)
      y = If (c) <
        then_branch = t () => (float[N,8] a) <float[8,8] v = {{{numbers}}}> {{
          k = MatMul (h, v)
          a = MatMul (k, w)
        }},
        else_branch = e () => (float[N,8] b) {{ b = MatMul (x, w) }}
      >
    }}""")


BRANCHED = {
    **{name: choice_of(name, 1) for name in FORMS if name != "pruned float"},
    **{f"stored {bits}": choice("stored", bits, axis=1) for bits in (2, 3, 5, 6, 7, 10, 12)},
    "blocks": choice("stored", 3, axis=1, block=4),
    "columns": choice("stored", 6, axis=1, columns=True),
    "blocks and columns": choice("stored", 2, axis=1, block=4, columns=True),
}


@pytest.mark.parametrize("name", BRANCHED)
def test_weights_of_branches_and_weights_that_only_branches_read(name):
    model = branches()
    if BRANCHED[name].columns:
        model = with_weights(model, {"w": random(8, 8) * np.float32([[50], *7 * [[1]]])})
    one = BRANCHED[name]
    copy, _, values = stored(model, plan(w=one, v=one))
    assert {"v", "w"}.isdisjoint(value.name for _, value in walk.initializers(copy))
    reference = with_weights(model, values)
    for taken in (True, False):
        feed = {"x": random(3, 8), "c": np.array(taken)}
        np.testing.assert_array_equal(run(copy, feed)["y"], run(reference, feed)["y"])
    nodes = {"Add", "BitShift", "Cast", "CumSum", "Gather", "Mul", "Reshape", "Slice", "Sub"}
    added = nodes & set(models.operators(ort.optimized(copy)))
    assert added == set()


def test_constants_that_the_model_has_by_the_same_name_are_not_taken_for_its_own():
    model = made(
        "g (float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8] c, float[8] d> {"
        " h = MatMul (x, w) k = Add (h, c) y = Add (k, d) }"
    )
    for old, new in (("c", "mask.zero"), ("d", "shape.8x8")):
        value = model.graph.initializers.pop(old)
        value.name = new
        model.graph.register_initializer(value)
    check(
        model,
        {"x": random(2, 8)},
        plan(w=choice("float", 32, masked=True, prune_below=0.3)),
    )


def test_weights_share_the_constants_of_the_mask():
    model = made(
        "g (float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8,8] v> {"
        " h = MatMul (x, w) y = MatMul (h, v) }"
    )
    one = choice("float", 32, masked=True, prune_below=0.3)
    copy, _, _ = stored(model, plan(w=one, v=one))
    owned = {"w.mask", "w.some", "v.mask", "v.some"}
    names = set(copy.graph.initializers)
    assert owned < names
    shared = names - owned
    single, _, _ = stored(model, plan(w=one))
    assert shared == set(single.graph.initializers) - {"w.mask", "w.some", "v"}


UNCHANGED = {
    "float as it is": choice("float", 32),
    "integers for a kernel": choice("qdq", 8, axis=1),
    "nothing to prune": choice("float", 32, prune_below=1e-9),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_nothing_to_store_is_no_change(name):
    model, _, _ = subject("MatMul")
    before = ort.ir.to_proto(model).SerializeToString()
    result = StoreWeightsPass(plan(w=UNCHANGED[name]), {})(model)
    assert not result.modified
    assert ort.ir.to_proto(model).SerializeToString() == before


def test_pruning_a_second_time_changes_nothing():
    model, _, _ = subject("MatMul")
    planned = plan(w=choice("float", 32, prune_below=0.1))
    assert StoreWeightsPass(planned, {})(model).modified
    assert not StoreWeightsPass(planned, {})(model).modified


def test_a_plan_fits_only_once():
    model, _, _ = subject("MatMul")
    planned = plan(w=choice("float16", 16))
    copy, _, _ = stored(model, planned)
    once = ort.ir.to_proto(copy).SerializeToString()
    with pytest.raises(PlanError, match=r"the plan names 1 weight\(s\) that the model lacks: 'w'"):
        StoreWeightsPass(planned, {})(copy)
    assert ort.ir.to_proto(copy).SerializeToString() == once


def test_absent_weights_are_refused_by_name_before_anything_is_done():
    model, _, _ = subject("MatMul")
    before = ort.ir.to_proto(model).SerializeToString()
    half = choice("float16", 16)
    absent = {f"absent{index}": half for index in range(6)}
    with pytest.raises(PlanError) as caught:
        StoreWeightsPass(plan(w=half, **absent), {})(model)
    assert str(caught.value).splitlines() == [
        (
            "the plan names 6 weight(s) that the model lacks: 'absent0', 'absent1', 'absent2', "
            "'absent3', 'absent4', ..."
        ),
        "  The plan was made for model sha256:000000000000.",
        "  Make a plan for this one: onnxsqueeze plan MODEL",
    ]
    assert ort.ir.to_proto(model).SerializeToString() == before

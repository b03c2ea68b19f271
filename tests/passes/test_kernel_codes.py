"""Codes of integer kernels in fewer bits than the kernels read."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.numerics.grid import limits
from onnxsqueeze.passes.apply import carried_out, rounded
from onnxsqueeze.passes.coverage import fallen_back
from onnxsqueeze.runtime import ort
from tests.passes.test_insert_dynamic import plan_for as dynamic_plan
from tests.passes.test_insert_qdq import plan_for
from tests.passes.test_signed_weights import PRODUCTS, model_of

WIDTHS = (3, 4, 5, 6, 7)


def planned(kind, form, **changes):
    model, feed = model_of(kind)
    if form == "dynamic":
        return model, feed, dynamic_plan(model, **changes)
    return model, feed, plan_for(model, feed, **changes)


def made_by(plan, model, grams=None):
    codes = rounded(plan, model, grams or {})
    return codes["w"], carried_out(plan, model, codes)


def stored_bytes(model):
    """Bytes of what is made of the weight, but for its scales."""
    tensors = {name: value.const_value for name, value in model.graph.initializers.items()}
    parts = ("w.int", "w.bits1", "w.bits2")
    return sum(tensor.nbytes for name, tensor in tensors.items() if name.startswith(parts))


CASES = [(kind, "qdq") for kind in PRODUCTS] + [("matrix", "dynamic")]


@pytest.mark.parametrize("codes", ["uint8", "int8"])
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("kind", "form"), CASES)
def test_narrow_codes_run_in_the_same_kernels_as_wide_ones(kind, form, bits, codes):
    model, feed, plan = planned(kind, form, bits=bits, codes=codes)
    _, narrow = made_by(plan, model)
    # A portable plan stores the same codes in 8 bits.
    _, wide = made_by(plan.model_copy(update={"portable": True}), model)

    assert fallen_back(plan, narrow) == {}
    kernels = [sorted(node.op_type for node in ort.optimized(one).graph) for one in (narrow, wide)]
    assert kernels[0] == kernels[1]
    results = [ort.run(ort.session(one), feed)["out"] for one in (narrow, wide)]
    np.testing.assert_array_equal(*results)
    count = model.graph.initializers["w"].const_value.size
    assert stored_bytes(wide) == count
    planes = {3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}[bits]
    assert stored_bytes(narrow) == sum(-(-count * width // 8) for width in planes)


@pytest.mark.parametrize("bits", WIDTHS)
def test_scales_of_kernels_are_positive(bits):
    """Stored codes of few bits may have negative scales; integer kernels take none."""
    model, _ = model_of("matrix")
    weight = model.graph.initializers["w"].const_value.numpy().copy()
    weight[0] = -2.0  # on the lowest code, if a scale could be negative or not
    weight[1] = 1.9
    model.graph.initializers["w"].const_value = ir.tensor(weight, name="w")
    plan = dynamic_plan(model, bits=bits, rounding="compensated")
    rows = np.random.default_rng(0).normal(size=(300, len(weight))).astype(np.float32)
    gram = Gram((rows.T @ rows / 300)[None], 300)
    made, _ = made_by(plan, model, {"w": gram})
    low, high = limits(bits)
    assert made.scale.min() > 0
    assert low <= made.rows.min() < made.rows.max() <= high

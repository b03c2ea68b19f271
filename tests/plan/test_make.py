from __future__ import annotations

import pytest

from onnxsqueeze.config import WIDTHS, Limits, Target
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.plan.choose import choose
from onnxsqueeze.plan.make import allowed, check_operators, make_plan
from tests.plan.weight_facts import weight


def facts(data="d"):
    weights = (weight("a", damage=0.5), weight("b", damage=1e-4))
    return Facts("m" * 64, data, {}, weights, {}, {})


def test_a_plan_holds_the_choices_and_the_model_they_are_for():
    plan = make_plan(facts(), Target(), Limits(), damage_limit=1e-2)
    assert plan.model_sha256 == "m" * 64
    assert plan.weights == choose(facts().weights, 1e-2, Limits())
    assert (plan.portable, plan.activations) == (False, {})
    assert plan.notes == ("weights chosen for an expected output error energy of at most 0.01",)


def test_a_portable_target_makes_a_portable_plan():
    assert make_plan(facts(), Target(portable=True), Limits(), damage_limit=1).portable


def test_a_portable_plan_has_no_scales_of_columns():
    few = weight("c", damage=0.5).model_copy(update={"column_gain": 0.01})
    found = Facts("m" * 64, "d", {}, (few,), {}, {})
    plans = [
        make_plan(found, Target(portable=portable), Limits(), damage_limit=1e-2)
        for portable in (False, True)
    ]
    assert [plan.weights["c"].columns for plan in plans] == [True, False]


def test_a_plan_without_samples_says_so():
    plan = make_plan(facts(data=None), Target(), Limits(bits=(8, 16)), damage_limit=1e-2)
    assert len(plan.notes) == 2
    assert plan.notes[1].startswith("no samples were given: weights only")


def test_without_samples_few_bits_are_half_quadratic_and_the_plan_says_what_that_costs():
    plan = make_plan(facts(data=None), Target(), Limits(bits=(4,)), damage_limit=1e9)
    stored = [one for one in plan.weights.values() if one.form == "stored"]
    assert stored
    assert {one.rounding for one in stored} == {"half_quadratic"}
    assert any("nothing is known of what that does to real inputs" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("bits", "opset", "has_data", "portable", "left"),
    [
        (WIDTHS, 21, True, False, WIDTHS),
        (WIDTHS, 20, True, False, (2, 3, 8, 10, 16)),  # the others have a plane of 4 bits
        (WIDTHS, 21, False, False, (8, 10, 12, 16)),
        (WIDTHS, 21, True, True, (4, 8, 16)),
        (WIDTHS, 13, False, True, (8, 16)),
        ((4,), 21, False, False, (4,)),
        ((4,), 20, False, False, ()),
        ((16,), 13, False, False, (16,)),
    ],
)
def test_few_bits_need_a_new_opset_or_samples(bits, opset, has_data, portable, left):
    found = allowed(Limits(bits=bits, keep=("k",)), opset, has_data=has_data, portable=portable)
    assert found == Limits(bits=left, keep=("k",))


def test_widths_of_operators_are_cut_down_like_all():
    limits = Limits(bits=(8,), operator_bits={"Conv": (4, 8, 16), "Gemm": (4,)})
    found = allowed(limits, 20, has_data=True, portable=False)
    assert found == Limits(bits=(8,), operator_bits={"Conv": (8, 16), "Gemm": ()})


def test_widths_of_an_operator_that_is_not_there_are_refused():
    limits = Limits(operator_bits={"Conv": (8,)})
    check_operators(limits, ["Conv", "Gemm"])
    with pytest.raises(PlanError, match=r"'Conv', and .* no weight .*\n  .* do: Gemm, MatMul\."):
        check_operators(limits, ["MatMul", "Gemm", "MatMul"])
    with pytest.raises(PlanError, match=r"do: none\."):
        check_operators(limits, [])

from __future__ import annotations

from onnxsqueeze.config import Limits, Target
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.plan.large import Blocks, large_plan, ranked

LIMITS = Limits(bits=(4, 8))


def weight(name: str, damage: float | None = 0.01, **more: object) -> WeightFacts:
    values = {
        "name": name,
        "node": f"{name}_node",
        "operator": "MatMul",
        "role": "linear",
        "shape": (64, 32),
        "axis": 1,
        "item_bytes": 4,
        "largest": 1.0,
        "not_finite": 0,
        "damage": damage,
        "rows": 0,
    }
    return WeightFacts.model_validate(values | more)


def facts(*weights: WeightFacts, data: str | None = "data") -> Facts:
    return Facts("abc", data, {}, weights, {}, {})


def blocks(*names: str) -> Blocks:
    return Blocks(dict.fromkeys(names, 1), dict.fromkeys(names, 64))


def test_what_a_kernel_reads_in_blocks_has_them_and_others_are_stored() -> None:
    plan = large_plan(facts(weight("a"), weight("b")), Target(), LIMITS, blocks("a"))

    assert (plan.weights["a"].form, plan.weights["a"].bits) == ("blockwise", 4)
    assert plan.weights["a"].block == 32
    assert (plan.weights["b"].form, plan.weights["b"].bits) == ("stored", 4)


def test_milder_weights_take_the_most_bits() -> None:
    known, able = facts(weight("a"), weight("b")), blocks("a", "b")

    plan = large_plan(known, Target(), LIMITS, able, frozenset({"b"}))

    assert {name: choice.bits for name, choice in plan.weights.items()} == {"a": 4, "b": 8}
    assert [choice.offset for choice in plan.weights.values()] == [True, False]


def test_rounding_is_compensated_where_the_inputs_were_measured() -> None:
    known = facts(weight("a", rows=100), weight("b"))

    plan = large_plan(known, Target(), LIMITS, blocks("a", "b"))

    assert plan.weights["a"].rounding == "compensated"
    assert plan.weights["b"].rounding == "nearest"


def test_what_is_kept_or_not_finite_stays_float() -> None:
    known = facts(weight("a"), weight("b", not_finite=1))

    plan = large_plan(known, Target(), Limits(bits=(4,), keep=("a",)), blocks("a", "b"))

    assert {choice.form for choice in plan.weights.values()} == {"float"}


def test_without_samples_the_plan_says_that_no_budget_is_held() -> None:
    with_data = large_plan(facts(weight("a")), Target(), LIMITS, blocks("a"))
    without = large_plan(facts(weight("a"), data=None), Target(), LIMITS, blocks("a"))

    assert "no budget was held" in " ".join(without.notes)
    assert "no budget was held" not in " ".join(with_data.notes)


def test_those_that_lose_most_per_value_come_first() -> None:
    known = facts(weight("small", 0.01, shape=(32, 32)), weight("large", 0.01), weight("bad", 0.5))

    assert ranked(known, LIMITS, blocks("small", "large", "bad")) == ("bad", "small", "large")
    assert ranked(known, Limits(bits=(4,)), blocks("small", "large", "bad")) == ()
    assert ranked(known, LIMITS, blocks("bad")) == ("bad",)


def test_small_tables_stay_float_and_are_not_made_milder() -> None:
    table, positions = (
        weight(name, operator="Gather", role="lookup", shape=shape, axis=0)
        for name, shape in (("table", (1000, 64)), ("positions", (2, 64)))
    )
    known = facts(table, positions)

    plan = large_plan(known, Target(), LIMITS, blocks("table", "positions"))

    assert [(one.form, one.bits) for one in plan.weights.values()] == [
        ("blockwise", 4),
        ("float", 32),
    ]
    assert ranked(known, LIMITS, blocks("table", "positions")) == ("table",)


def test_blocks_are_larger_where_latency_is_all() -> None:
    known, able = facts(weight("a")), Blocks({"a": 1}, {"a": 1024})

    sizes = [
        large_plan(known, Target(objective=objective), LIMITS, able).weights["a"].block
        for objective in ("size", "balanced", "latency")
    ]

    assert sizes == [32, 32, 128]

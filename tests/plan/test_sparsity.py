from __future__ import annotations

import pytest

from onnxsqueeze.config import Limits
from onnxsqueeze.plan.choose import choose
from onnxsqueeze.plan.forms import forms
from onnxsqueeze.plan.sparsity import FARTHEST, at, thinnings, why_not_thinned
from tests.plan.weight_facts import weight


def quadratic(size):
    """Damage that grows with the square of what is gone."""
    return {fraction / 10: size * (fraction / 10) ** 2 for fraction in range(1, 10)}


def gone(found, weights):
    counts = {one.name: one.count for one in weights}
    return sum(one.fraction * counts[name] for name, one in found.items())


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.8, 0.95])
def test_all_together_give_up_the_fraction_and_the_sensitive_give_up_less(fraction):
    weights = [
        weight("soft", (64, 128), thin_damage=quadratic(0.01)),
        weight("hard", (64, 64), thin_damage=quadratic(1.0)),
        weight("between", (32, 64), thin_damage=quadratic(0.1)),
    ]
    found = thinnings(weights, Limits(sparsity=fraction))
    total = sum(one.count for one in weights)
    rounding = 0.5e-4 * total  # fractions have four digits
    assert gone(found, weights) == pytest.approx(fraction * total, abs=rounding)
    parts = [
        found[name].fraction if name in found else 0.0 for name in ("hard", "between", "soft")
    ]
    assert parts == sorted(parts)
    for part in parts:
        assert fraction - FARTHEST - 1e-4 <= part <= fraction + FARTHEST + 1e-4


def test_no_exchange_between_two_weights_would_damage_less():
    """The Lagrangian optimum: moving values from one to another raises the sum of damages."""
    weights = [
        weight(f"w{k}", (32, 64), thin_damage=quadratic(size))
        for k, size in enumerate((0.2, 0.3, 0.25, 0.22))
    ]
    found = thinnings(weights, Limits(sparsity=0.5))
    curves = {one.name: one.thin_damage for one in weights}
    best = sum(at(curves[name], one.fraction) for name, one in found.items())
    step = 0.01
    for more in found:
        for less in found:
            moved = {name: one.fraction for name, one in found.items()}
            moved[more], moved[less] = moved[more] + step, moved[less] - step
            if more != less:
                slack = 2e-4  # fractions have four digits, and slopes are under 0.6
                assert sum(at(curves[n], f) for n, f in moved.items()) >= best - slack


def test_without_curves_all_give_up_the_same():
    weights = [weight("a"), weight("b", (32, 64))]
    found = thinnings(weights, Limits(sparsity=0.4))
    assert {one.fraction for one in found.values()} == {0.4}


def test_a_share_scales_a_fraction_and_leaves_the_most_damaging_out_of_a_pattern():
    weights = [weight("hard", thin_damage={0.5: 0.2}), weight("soft", thin_damage={0.5: 0.1})]
    halved = thinnings(weights, Limits(sparsity=0.6), 0.5)
    total = sum(one.count for one in weights)
    assert gone(halved, weights) == pytest.approx(0.3 * total, abs=1e-4 * total)
    assert thinnings(weights, Limits(sparsity=0.6), 0.0) == {}
    whole = thinnings(weights, Limits(pattern="2:4"))
    assert {(one.pattern, one.fraction) for one in whole.values()} == {("2:4", 0.5)}
    assert whole.keys() == {"hard", "soft"}
    assert thinnings(weights, Limits(pattern="2:4"), 0.5).keys() == {"soft"}


@pytest.mark.parametrize(
    ("fields", "limits", "reason"),
    [
        ({"role": "lookup", "operator": "Gather"}, {}, "Gather reads it"),
        ({"role": "recurrent", "operator": "LSTM"}, {}, "LSTM reads it"),
        ({"shape": (30, 30)}, {}, "it has 900 values"),
        ({"not_finite": 1}, {}, "not finite"),
        ({}, {"keep": ("w",)}, "named by --keep"),
        ({"shape": (30, 64)}, {"sparsity": None, "pattern": "2:4"}, "pattern 2:4 does not divide"),
    ],
)
def test_what_gives_up_nothing_says_why(fields, limits, reason):
    facts, limits = weight(**fields), Limits(**{"sparsity": 0.5, **limits})
    assert reason in str(why_not_thinned(facts, limits))
    assert thinnings([facts], limits) == {}
    chosen = choose([facts], 1.0, limits, thinnings([facts], limits))["w"]
    assert (chosen.sparsity, chosen.pattern, chosen.masked) == (None, None, False)
    assert reason in chosen.reason


def test_without_a_wish_choices_are_as_they_were():
    weights = [weight("a"), weight("b", thin_damage=quadratic(1.0))]
    assert thinnings(weights, Limits()) == {}
    for limit in (0.0, 1e-3, 1.0):
        found = choose(weights, limit, Limits(), thinnings(weights, Limits()))
        assert found == choose(weights, limit, Limits())
        assert not any(one.prunes for one in found.values())


@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_chosen_weights_carry_their_part_and_are_fitted_where_inputs_were_seen(limit):
    weights = [weight("seen", (256, 256)), weight("unseen", (256, 256), rows=0)]
    limits = Limits(sparsity=0.5, shrink="l1", bits=(8,))
    found = choose(weights, limit, limits, thinnings(weights, limits))
    assert {one.sparsity for one in found.values()} == {0.5}
    assert {one.shrink for one in found.values()} == {"l1"}
    assert {one.axis for one in found.values()} == {1}
    assert all(one.masked for one in found.values())
    assert found["seen"].rounding == "compensated"
    assert found["unseen"].rounding == "nearest"
    assert "sparsity 50%, zeros not stored" in found["seen"].reason


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.9])
def test_a_masked_form_takes_what_is_left_and_a_bit_for_each(fraction):
    facts = weight(shape=(256, 256))
    for form in forms(facts, Limits(bits=(4, 8, 16)), fraction):
        values = (1 - fraction) * facts.count * form.bits / 8
        rest = 2 * 256 + 40 * 90  # scales and nodes
        assert form.masked
        assert values + facts.count / 8 <= form.size_bytes <= values + facts.count / 8 + rest + 8


@pytest.mark.parametrize(("fraction", "masked"), [(0.5, False), (0.66, False), (0.68, True)])
def test_a_sparse_initializer_pays_from_two_thirds_zeros_on(fraction, masked):
    facts = weight(shape=(256, 256))
    (form,) = forms(facts, Limits(sparsity=fraction), fraction, "initializer")
    assert (form.form, form.masked) == ("float", masked)
    assert form.size_bytes <= 4 * facts.count


def test_a_curve_runs_through_its_points_and_on():
    curve = {0.2: 0.1, 0.6: 0.5}
    assert [at(curve, fraction) for fraction in (0.0, 0.2, 0.6)] == pytest.approx([0, 0.1, 0.5])
    assert at(curve, 0.7) == pytest.approx(0.6)
    assert at({}, 0.5) == 0.0

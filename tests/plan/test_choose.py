from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from onnxsqueeze.config import Limits
from onnxsqueeze.plan.choose import choose, counts
from onnxsqueeze.plan.forms import forms
from tests.plan.weight_facts import weight


def instance(seed, count=4):
    rng = np.random.default_rng(seed)
    return [
        weight(
            f"w{index}",
            tuple(int(n) for n in rng.integers(3, 16, 2) * 16),
            damage=float(10 ** rng.uniform(-4, 0)),
        )
        for index in range(count)
    ]


def taken(weights, choices, limits):
    """The form, with its bytes and damage, that each choice names."""
    return [
        next(
            form
            for form in forms(one, limits)
            if (form.form, form.bits, form.block)
            == (choices[one.name].form, choices[one.name].bits, choices[one.name].block)
        )
        for one in weights
    ]


def total(chosen):
    return sum(one.size_bytes for one in chosen), sum(one.damage for one in chosen)


def hull_steps(options):
    """Bytes between neighbours on the lower convex hull of the (bytes, damage) points."""
    corners = []
    at = 0
    while at < len(options) - 1:
        rates = [
            (there.damage - options[at].damage) / (there.size_bytes - options[at].size_bytes)
            for there in options[at + 1 :]
        ]
        step = 1 + int(np.argmin(rates))
        corners.append(options[at + step].size_bytes - options[at].size_bytes)
        at += step
    return corners


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [1e-6, 1e-3, 0.05, 0.5])
def test_the_damage_is_within_the_limit_and_the_bytes_one_step_off_the_optimum(seed, limit):
    weights, limits = instance(seed), Limits()
    found_bytes, found_damage = total(taken(weights, choose(weights, limit, limits), limits))
    assert found_damage <= limit * (1 + 1e-9)
    every = [forms(one, limits) for one in weights]
    best = min(size for size, damage in map(total, itertools.product(*every)) if damage <= limit)
    # What was taken before the last step is the optimum of a larger limit, so no larger than the
    # optimum of this one.
    last = max(step for options in every for step in hull_steps(options))
    assert best <= found_bytes < best + last


@pytest.mark.parametrize("seed", range(4))
def test_a_larger_limit_never_takes_more_bytes(seed):
    weights, limits = instance(seed, count=12), Limits()
    sizes = [
        total(taken(weights, choose(weights, limit, limits), limits))[0]
        for limit in np.geomspace(1e-7, 10, 30)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_no_damage_allowed_keeps_floats_and_much_allowed_takes_the_smallest():
    weights = instance(0)
    assert counts(choose(weights, 0.0, Limits())) == {"float": 4}
    assert counts(choose(weights, math.inf, Limits())) == {"stored 2": 4}


@pytest.mark.parametrize("damage", [math.inf, math.nan])
def test_an_unmeasurable_damage_does_not_free_the_others_of_the_limit(damage):
    weights = [weight("bad", damage=damage), weight("good", damage=0.1)]
    choices = choose(weights, 1e-3, Limits())
    assert (choices["bad"].form, choices["good"].form) == ("float", "stored")


def test_a_kept_weight_stays_float_and_says_why():
    weights = [weight("a"), weight("b")]
    choices = choose(weights, 1.0, Limits(keep=("a",), prune_below=0.1))
    assert (choices["a"].form, choices["a"].bits) == ("float", 32)
    assert (choices["a"].prune_below, choices["a"].reason) == (None, "named by --keep")
    assert (choices["b"].form, choices["b"].prune_below) == ("stored", 0.1)


def test_a_weight_with_nan_stays_float_unpruned():
    choices = choose([weight(not_finite=3)], 1.0, Limits(prune_below=0.1))
    assert choices["w"].form == "float"
    assert choices["w"].prune_below is None
    assert choices["w"].reason.startswith("holds 3 NaN or infinite values")


@pytest.mark.parametrize("bits", [(8,), (16,), (4,), (8, 16), ()])
def test_no_other_bits_than_allowed_are_used(bits):
    weights = instance(1, count=10)
    for limit in (0.0, 1e-3, 1.0):
        choices = choose(weights, limit, Limits(bits=bits)).values()
        assert {choice.bits for choice in choices} <= {*bits, 32}


def test_pruned_zeros_go_behind_a_mask():
    facts = weight(shape=(256, 256), zeros=60000)
    choice = choose([facts], 1.0, Limits(prune_below=0.01))["w"]
    assert (choice.masked, choice.prune_below) == (True, 0.01)
    assert choose([facts], 0.0, Limits(prune_below=0.01))["w"].masked  # also in float
    assert not choose([weight(shape=(256, 256))], 1.0, Limits())["w"].masked


def test_rounding_is_compensated_only_where_inputs_were_seen():
    weights = [weight("seen", rows=5), weight("unseen", rows=0)]
    choices = choose(weights, 1.0, Limits())
    assert choices["seen"].rounding == "compensated"
    assert choices["unseen"].rounding == "nearest"
    assert choose(weights, 0.0, Limits())["seen"].rounding == "nearest"


def test_axis_and_block_are_those_of_the_form():
    facts = weight(shape=(64, 64), block_gain={32: 0.5})
    choice = choose([facts], 0.06, Limits(bits=(4,)))["w"]
    assert (choice.form, choice.bits, choice.axis, choice.block) == ("stored", 4, 1, 32)
    assert choose([weight()], 0.0, Limits())["w"].axis is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (None, "2-bit stored without data: only its own rounding error is known"),
        (0.0, "8-bit stored: no sample reaches it, so nothing is known of its damage"),
        (0.25, "2-bit stored: at 4 bits it alone changes 0.25 of the output's energy"),
    ],
)
def test_the_reason_says_what_is_known(damage, words):
    assert choose([weight(damage=damage)], math.inf, Limits())["w"].reason.startswith(words)


def test_without_weights_there_is_nothing_to_choose():
    assert choose([], 0.1, Limits()) == {}

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.config import Limits
from onnxsqueeze.numerics.error import at_bits
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.plan.forms import MOST_DAMAGE, NODE_BYTES, forms, kernel_forms
from onnxsqueeze.plan.types import Plan, WeightChoice
from tests.plan.weight_facts import weight
from tests.runtime.made import made, random


def names(found):
    return [(one.form, one.bits) for one in found]


CLASSIC = Limits(bits=(4, 8, 16))
ALL = [("stored", 4), ("stored", 8), ("float16", 16), ("float", 32)]


def test_all_forms_are_offered_from_small_and_damaging_to_large_and_exact():
    found = forms(weight(damage=0.256), CLASSIC)
    assert names(found) == ALL
    assert [one.damage for one in found] == [0.256, 0.001, 0.256 / 2**17, 0.0]
    sizes = [one.size_bytes for one in found]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == 64 * 64 * 4


@pytest.mark.parametrize(
    ("facts", "limits", "expected"),
    [
        ({}, {"bits": (8,)}, [("stored", 8), ("float", 32)]),
        ({}, {"bits": (4,)}, [("stored", 4), ("float", 32)]),
        ({}, {"bits": (16,)}, [("float16", 16), ("float", 32)]),
        ({}, {"bits": ()}, [("float", 32)]),
        ({}, {"bits": (32,)}, [("float", 32)]),
        ({}, {"bits": (8, 32)}, [("stored", 8), ("float", 32)]),
        ({"damage": 0.0}, {"bits": (32,)}, [("float", 32)]),
        ({}, {"operator_bits": {"MatMul": (8,)}}, [("stored", 8), ("float", 32)]),
        ({}, {"operator_bits": {"Conv": (8,)}}, ALL),
        ({}, {"keep": ("w",)}, [("float", 32)]),
        ({}, {"keep": ("reads w",)}, [("float", 32)]),
        ({}, {"keep": ("reads",)}, ALL),
        ({"not_finite": 1}, {}, [("float", 32)]),
        ({"item_bytes": 2}, {}, [("stored", 4), ("stored", 8), ("float", 32)]),
        ({"largest": 65505.0}, {}, [("stored", 4), ("stored", 8), ("float", 32)]),
        ({"largest": 65504.0}, {}, ALL),
        ({"damage": 0.0}, {}, [("stored", 8)]),
        ({"damage": 0.0}, {"bits": (4, 16)}, [("stored", 4)]),
        ({"damage": None}, {}, ALL),
    ],
)
def test_what_the_facts_and_the_limits_leave(facts, limits, expected):
    limits = Limits(**{"bits": (4, 8, 16), **limits})
    assert names(forms(weight(**facts), limits)) == expected


def test_a_form_that_saves_nothing_is_left_out():
    # 16 values in 64 bytes: any restoring node takes more.
    assert names(forms(weight(shape=(4, 4)), Limits())) == [("float", 32)]


@pytest.mark.parametrize("damage", [math.inf, math.nan])
def test_a_damage_without_measure_stands_for_a_large_one(damage):
    found = forms(weight(damage=damage), CLASSIC)
    assert found[0].damage == MOST_DAMAGE
    assert found[-1].damage == 0.0


def test_every_width_less_does_four_times_the_damage_in_fewer_bytes():
    found = forms(weight(shape=(256, 256), damage=0.1), Limits())
    damage = {one.bits: one.damage for one in found}
    assert list(damage) == sorted(damage)
    for bits in damage.keys() - {16, 32}:
        assert damage[bits] == pytest.approx(0.1 * 4.0 ** (4 - bits))
    # Half a bit better than 12 bits, which have their scale in common.
    assert damage[16] == damage[12] / 2


@pytest.mark.parametrize(
    ("bits", "blocks"), [(4, {None, 16, 32}), (5, {None, 16, 32}), (6, {None})]
)
def test_few_bits_may_have_the_blocks_that_were_tried(bits, blocks):
    tried = {32: 0.5, 16: 0.25}
    found = forms(weight(shape=(256, 256), damage=0.1, block_gain=tried), Limits(bits=(bits,)))
    stored = [one for one in found if one.form == "stored"]
    assert {one.block for one in stored} == blocks
    for one in stored:
        gain = tried.get(one.block, 1.0)
        assert one.damage == pytest.approx(0.1 * 4.0 ** (4 - bits) * gain)


def test_a_block_that_gains_nothing_is_left_out():
    tried = {32: 1.0}
    found = forms(weight(shape=(256, 256), block_gain=tried), Limits(bits=(4,)))
    assert [one.block for one in found] == [None, None]  # 4 bits, and float


def test_scales_of_columns_are_offered_where_they_gain_and_cost_a_scale_per_feature():
    plain = forms(weight(shape=(256, 128)), Limits(bits=(4,)))
    found = forms(weight(shape=(256, 128), column_gain=0.25), Limits(bits=(4,)))
    assert [(one.form, one.columns) for one in plain] == [("stored", False), ("float", False)]
    assert [(one.form, one.columns) for one in found] == [
        ("stored", False), ("stored", True), ("float", False),
    ]  # fmt: skip
    without, with_columns, _ = found
    assert without == plain[0]
    assert with_columns.damage == without.damage / 4
    assert with_columns.size_bytes == without.size_bytes + 2 * 256 + 2 * NODE_BYTES


def test_columns_and_blocks_gain_together():
    facts = weight(shape=(256, 256), block_gain={32: 0.5}, column_gain=0.25)
    found = forms(facts, Limits(bits=(4,)))
    gains = {(one.block, one.columns): one.damage / 0.1 for one in found if one.form == "stored"}
    assert gains == {
        key: pytest.approx(gain)
        for key, gain in {(None, False): 1, (None, True): 0.25, (32, True): 0.125}.items()
    }


def test_zeros_are_masked_where_that_is_smaller():
    dense = forms(weight(shape=(256, 256)), CLASSIC)
    sparse = forms(weight(shape=(256, 256), zeros=52000), CLASSIC)
    assert not any(one.masked for one in dense)
    assert all(one.masked for one in sparse)
    assert all(a.size_bytes < b.size_bytes for a, b in zip(sparse, dense, strict=True))


def proto_bytes(model):
    return len(ir.to_proto(model).SerializeToString())


@pytest.mark.parametrize(("zeros", "column_gain"), [(0.0, 1.0), (0.9, 1.0), (0.0, 0.5)])
def test_the_bytes_are_those_of_the_file(zeros, column_gain):
    w = random(128, 96)
    w[np.random.default_rng(1).random(w.shape) < zeros] = 0
    if column_gain < 1:
        w[::32] *= 50
    model = made(
        "g (float[N,128] x) => (float[N,96] y) <float[128,96] w> { y = MatMul (x, w) }", w=w
    )
    rest = proto_bytes(model) - w.nbytes
    facts = weight(shape=w.shape, zeros=int((w == 0).sum()), column_gain=column_gain)
    for form in forms(facts, Limits()):
        choice = WeightChoice(
            form=form.form, bits=form.bits, axis=1, block=form.block, masked=form.masked,
            columns=form.columns, prune_below=1e-9 if form.masked else None, reason="",
        )  # fmt: skip
        stored = apply(Plan(model_sha256="0" * 64, weights={"w": choice}), model, {}).model
        # Each restoring node and its constants may be off by what it was taken for: six, or the
        # mask's ten more, or up to nine for each of two planes. Four-bit codes add zeros that are
        # not counted beforehand.
        slack = NODE_BYTES * (16 if form.masked else 6 if form.bits in (4, 8, 16, 32) else 24)
        written = proto_bytes(stored) - rest
        assert written <= form.size_bytes + slack
        if form.bits != 4 or not form.masked:
            assert written >= form.size_bytes - slack


def test_kernels_have_codes_of_the_widths_that_are_allowed():
    facts = weight(damage=0.5, column_gain=0.1, block_gain={32: 0.5}, zeros=50)
    found = kernel_forms(facts, Limits(bits=(2, 4, 5, 6, 16)), portable=False)
    assert [(one.form, one.bits, one.block, one.columns, one.masked) for one in found] == [
        ("stored", bits, None, False, False) for bits in (4, 5, 6, 8)
    ]
    assert [one.size_bytes for one in found] == sorted(one.size_bytes for one in found)
    # The kernel has no more than 8 bits, so only what is lost beyond that counts.
    assert [one.damage for one in found] == pytest.approx(
        [at_bits(0.5, bits) - at_bits(0.5, 8) for bits in (4, 5, 6, 8)]
    )


@pytest.mark.parametrize(
    ("facts", "portable"), [({}, True), ({"damage": None}, False), ({"damage": 0.0}, False)]
)
def test_codes_have_eight_bits_where_nothing_is_known_or_nothing_folds(facts, portable):
    found = kernel_forms(weight(**{"damage": 0.5, **facts}), Limits(), portable=portable)
    assert [one.bits for one in found] == [8]


def test_of_a_small_weight_the_nodes_cost_more_than_narrow_codes_save():
    found = kernel_forms(weight(shape=(8, 8), damage=0.5), Limits(), portable=False)
    assert [one.bits for one in found] == [4, 8]

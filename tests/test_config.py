from __future__ import annotations

import pytest
from pydantic import ValidationError

from onnxsqueeze.config import WIDTHS, Budget, Limits, Target


def test_defaults():
    assert Budget() == Budget(max_drop=0.01, metric="auto", seed=0)
    assert Target() == Target(objective="balanced", provider="cpu", threads=1, portable=False)
    assert Limits() == Limits(bits=WIDTHS, keep=(), prune_below=None, time_limit_s=None)


@pytest.mark.parametrize(
    ("kind", "field", "bad"),
    [
        (Budget, "max_drop", -0.01),
        (Budget, "max_drop", 1.01),
        (Budget, "max_drop", float("nan")),
        (Budget, "seed", -1),
        (Target, "objective", "speed"),
        (Target, "calibration", "best"),
        (Target, "threads", 0),
        (Limits, "bits", (9,)),
        (Limits, "operator_bits", {"Conv": (9,)}),
        (Limits, "keep", ("(",)),
        (Limits, "prune_below", 0.0),
        (Limits, "time_limit_s", -1.0),
        (Limits, "sparseness", 0.5),
        (Limits, "sparsity", 1.0),
        (Limits, "sparsity", 0.0),
        (Limits, "pattern", "4"),
        (Limits, "pattern", "0:4"),
        (Limits, "pattern", "4:4"),
        (Limits, "shrink", "l3"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(kind, field, bad):
    with pytest.raises(ValidationError) as caught:
        kind(**{field: bad})
    assert caught.value.errors()[0]["loc"][0] == field


@pytest.mark.parametrize(("kind", "field", "good"), [
    (Budget, "max_drop", 0.0), (Budget, "max_drop", 1.0), (Limits, "bits", ()),
    (Limits, "operator_bits", {"Conv": ()}),
])  # fmt: skip
def test_the_ends_are_allowed(kind, field, good):
    assert getattr(kind(**{field: good}), field) == good


def test_zeros_are_a_fraction_or_a_pattern():
    assert [limits.is_sparse for limits in (Limits(), Limits(sparsity=0.5))] == [False, True]
    assert Limits(pattern="2:4").is_sparse
    with pytest.raises(ValidationError, match="a fraction or a pattern, not both"):
        Limits(sparsity=0.5, pattern="2:4")


def test_a_bad_pattern_is_told_with_the_reason():
    with pytest.raises(ValidationError, match=r"'\(' is no regular expression: missing \)"):
        Limits(keep=("ok", "("))


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Budget().max_drop = 0.5


def test_keep_patterns_match_whole_names():
    limits = Limits(keep=("conv", "head/.*"))
    assert limits.is_kept("conv")
    assert limits.is_kept("other", "head/w")
    assert not limits.is_kept("conv1", "my/head/w")
    assert not Limits().is_kept("conv")

"""The criterion of importance reaches the order in which pruning removes units."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from onnxsqueeze.cli.options import limit_options
from onnxsqueeze.config import Importance, Limits
from onnxsqueeze.measure.importance import unit_importance
from onnxsqueeze.measure.prune_widths import removals
from onnxsqueeze.search.cutting import cutting
from onnxsqueeze.search.pruning import ranking
from tests.measure.pruning import SliceCut
from tests.test_search_pruning import UNITS, searched, spare


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "information", "activation"])
def test_units_that_are_always_zero_go_first(tmp_path: Path, criterion: Importance) -> None:
    if criterion in ("taylor", "fisher"):
        pytest.importorskip("torch")
    search = searched(spare(), tmp_path, 0.01)
    found = ranking(search, cutting(search, UNITS, SliceCut(UNITS)), criterion=criterion)
    for name in ("r", "s"):
        # Of group s one more is never over 0 on these samples.
        assert set(range(0, 32, 2)) <= set(found.order[name].order[:17].tolist())


def test_given_scores_are_the_order_and_losses_are_still_measured(tmp_path: Path) -> None:
    search = searched(spare(), tmp_path, 0.01)
    cuts = cutting(search, UNITS, SliceCut(UNITS))
    scores = unit_importance(search.model, UNITS, search.samples, "information")
    found = removals(search.model, UNITS, cuts.known, "obs", {"r": scores["r"]})
    own = removals(search.model, UNITS, cuts.known)
    wanted = np.argsort(scores["r"], kind="stable")
    for ranked, best in zip(found["r"], own["r"], strict=True):
        assert np.array_equal(ranked.order, wanted)
        assert (np.diff(ranked.losses) >= 0).all()
        # All that is left at the end is the same, whatever the order.
        assert ranked.losses[-1] == pytest.approx(best.losses[-1], rel=1e-6)
    assert np.array_equal(found["s"][0].order, own["s"][0].order)


def test_there_is_no_other_importance() -> None:
    with pytest.raises(ValidationError, match="importance"):
        Limits(importance="luck")  # type: ignore[arg-type]
    assert Limits().importance == "obs"


def test_the_command_line_offers_each() -> None:
    @limit_options
    def command() -> None:
        pass

    (option,) = (
        one
        for one in command.__click_params__  # type: ignore[attr-defined]
        if one.name == "importance"
    )
    assert tuple(option.type.choices) == get_args(Importance)
    assert option.default == "obs"

"""Pruning within a share of the budget: real models, real runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import Samples, open_samples
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph.signature import signature
from onnxsqueeze.measure.fidelity import reference
from onnxsqueeze.passes.unique_names import unique_names
from onnxsqueeze.runtime.shapes import measured_shapes
from onnxsqueeze.search import cutting as cutting_of
from onnxsqueeze.search.cutting import STAGES, affordable_walk, cutting, prunable
from onnxsqueeze.search.pruning import LADDER, at_rung, pruned, ranking
from onnxsqueeze.search.pruning_screen import Saving, foretold_saving
from onnxsqueeze.search.trial import Search
from tests.measure.pruning import SliceCut, deep, deep_units
from tests.runtime.made import made, random

MLP = deep(32)
UNITS = deep_units(32)


def spare() -> ir.Model:
    """A network in which 16 units of each layer are always 0."""
    w, v = random(6, 32), random(32, 32, seed=1) / np.float32(6)
    b, c = random(32, seed=2), random(32, seed=3)
    for weight, constant in ((w, b), (v, c)):
        weight[:, ::2], constant[::2] = 0, 0
    model = made(MLP, w=w, b=b, v=v, c=c)
    unique_names(model)  # as cleaning does; work is counted by node
    return model


def samples(model: ir.Model, seed: int, count: int = 40) -> Samples:
    feeds: list[dict[str, Any]] = [{"x": random(50, 6, seed=seed + n)} for n in range(count)]
    return open_samples(feeds, signature(model))


def searched(
    model: ir.Model, folder: Path, max_drop: float, limits: Limits | None = None
) -> Search:
    held_out = samples(model, 1000, 20)
    facts = Facts("0", "1", measured_shapes(model, held_out[0]), (), {}, {})
    known = reference(model, held_out)
    budget = Budget(max_drop=max_drop)
    given = samples(model, 0)
    return Search(model, facts, known, budget, Target(), limits or Limits(), Store(folder), given)


def test_dead_units_are_pruned_and_the_drop_keeps_to_the_share(tmp_path: Path) -> None:
    model = spare()
    search = searched(model, tmp_path, 0.01)
    found = pruned(search, cutting(search, UNITS, SliceCut(UNITS)), share=0.5)
    assert found is not None
    # Without the dead units a third of 6·32 + 32·32 + 32·4 multiply-adds is left, at no loss.
    assert found.removed >= 0.6
    assert found.fidelity.drop.high <= 0.5 * search.budget.max_drop
    assert found.short == ()
    assert set(found.kept) == set(found.reasons) == {"r", "s"}
    for name, kept in found.kept.items():
        assert found.reasons[name].startswith(f"{len(kept)} of 32 kept")
        weight = found.model.graph.initializers["w" if name == "r" else "u"].const_value
        assert weight is not None
        assert weight.shape.numpy()[1 if name == "r" else 0] == len(kept)


def test_the_search_ends_at_the_last_rung_within_its_share(tmp_path: Path) -> None:
    model = spare()
    search = searched(model, tmp_path, 0.02)
    cut = SliceCut(UNITS)
    found = pruned(search, cutting(search, UNITS, cut), share=1.0)
    assert found is not None
    ranks = ranking(search, cutting(search, UNITS, cut))
    rung = ranks.removed.index(found.removed)
    assert rung < len(LADDER) - 1
    over = at_rung(search, ranks, rung + 1)
    assert over is not None
    assert over.fidelity.drop.high > search.budget.max_drop


def test_dead_units_are_foretold_to_go_before_anything_is_tried(tmp_path: Path) -> None:
    saved = []
    for model in (spare(), made(MLP)):
        unique_names(model)
        search = searched(model, tmp_path, 0.01)
        cuts = cutting(search, UNITS, SliceCut(UNITS))
        saved.append(foretold_saving(search, cuts, 1e-4))
        assert foretold_saving(search, cuts, 1.0).weights > saved[-1].weights
        assert foretold_saving(search, cuts, 0.0).work <= saved[-1].work
    # Half of both layers' units take 6·16 + 3·16·16 + 4·16 of 6·32 + 32·32 + 4·32 weights along.
    assert saved[0].weights > 0.6
    assert saved[1].weights < saved[0].weights


@pytest.mark.parametrize(
    ("weights", "work", "enough"),
    [(0.2, 0.0, True), (0.19, 0.3, False), (0.19, 0.31, True), (0.0, 0.5, True)],
)
def test_a_fifth_of_the_weights_is_worth_it_or_less_with_more_work(
    weights: float, work: float, enough: bool
) -> None:
    assert Saving(weights, work).is_enough == enough


def test_no_budget_prunes_nothing(tmp_path: Path) -> None:
    # No unit is ever 0, so that each that goes changes the output, be it by a rounding.
    model = made(MLP, b=np.full(32, 9, np.float32), c=np.full(32, 99, np.float32))
    unique_names(model)
    search = searched(model, tmp_path, 0.0)
    assert pruned(search, cutting(search, UNITS, SliceCut(UNITS))) is None


def test_what_is_to_be_kept_is_not_pruned(tmp_path: Path) -> None:
    model = spare()
    search = searched(model, tmp_path, 0.05, Limits(keep=("v",)))
    assert pruned(search, cutting(search, UNITS, SliceCut(UNITS))) is None
    search = searched(model, tmp_path, 0.05, Limits(keep=("w",)))
    found = pruned(search, cutting(search, UNITS, SliceCut(UNITS)))
    assert found is not None
    assert set(found.kept) == {"s"}


def test_repair_by_layer_goes_on_where_the_quick_one_ends(tmp_path: Path) -> None:
    model = made(MLP)
    search, cut = searched(model, tmp_path, 0.05), SliceCut(UNITS)
    ranks = ranking(search, cutting(search, UNITS, cut))
    within = [
        one
        for rung in range(len(LADDER))
        if (one := at_rung(search, ranks, rung)) and one.fidelity.drop.high <= 0.05
    ]
    found, most = pruned(search, cutting(search, UNITS, cut), share=1.0), within[-1]
    assert found is not None
    if found.removed == most.removed:
        kept = min(found.fidelity.sqnr_db.values()), min(most.fidelity.sqnr_db.values())
        assert kept[0] > kept[1] if found.repairs_in_sequence else kept[0] == kept[1]
    else:
        assert found.repairs_in_sequence
        assert found.removed > most.removed


def test_a_walk_goes_over_all_samples_or_over_as_many_as_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searched(made(MLP), tmp_path, 0.05)
    every = affordable_walk(search)
    assert every is not None
    assert (len(every.samples), every.stages) == (len(search.samples), STAGES)
    once = 50 * (6 * 32 + 32 * 32 + 32 * 4)  # of 50 rows; two models are run twice
    few = len(search.samples) // 2
    monkeypatch.setattr(cutting_of, "REPAIR_WORK", 4 * few * once)
    monkeypatch.setattr(cutting_of, "FEWEST_SAMPLES", few)
    some = affordable_walk(search)
    assert some is not None
    assert (len(some.samples), some.stages) == (few, 2)
    monkeypatch.setattr(cutting_of, "FEWEST_SAMPLES", few + 1)
    assert affordable_walk(search) is None


@pytest.mark.parametrize("stage", ["damage of narrower layers", "pruning within the budget"])
def test_progress_is_told_by_stage(tmp_path: Path, stage: str) -> None:
    model, told = spare(), set[str]()
    search = searched(model, tmp_path, 0.01)
    pruned(
        search,
        cutting(search, UNITS, SliceCut(UNITS)),
        progress=lambda name, done, total: told.add(name) if done <= total else None,
    )
    assert stage in told


CNN = """
g (float[N,1,8,8] x) => (float[N,4] y)
<float[32,1,3,3] w, float[32] b, float[32,32,3,3] v, float[32] c, float[4,32] u, float[4] d> {
  h = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  r = Relu (h)
  k = Conv <pads = [1, 1, 1, 1]> (r, v, c)
  s = Add (k, r)
  t = Relu (s)
  p = GlobalAveragePool (t)
  f = Flatten (p)
  y = Gemm <transB = 1> (f, u, d)
}"""


def test_units_are_found_and_cut_by_the_models_own_dependencies(tmp_path: Path) -> None:
    model = made(CNN)
    unique_names(model)
    feeds = [{"x": random(4, 1, 8, 8, seed=n)} for n in range(20)]
    given = open_samples(feeds, signature(model))
    facts = Facts("0", "1", measured_shapes(model, given[0]), (), {}, {})
    settings = Budget(max_drop=1.0), Target(), Limits(), Store(tmp_path), given
    search = Search(model, facts, reference(model, given), *settings)
    units, cut = prunable(search)
    assert [one.count for one in units] == [32]  # the addition ties both layers
    found = pruned(search, cutting(search, units, cut))
    assert found is not None
    # At 8 of 32 channels a sixteenth of v's work is left, and a quarter of the rest.
    assert found.removed >= LADDER[-1]
    (kept,) = found.kept.values()
    assert len(kept) == 8
    assert found.fidelity.drop.value < 1.0

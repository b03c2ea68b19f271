"""The criteria that are held against each other, and those that only this study knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.measure.importance import unit_importance
from onnxsqueeze.measure.information import feature_scores
from onnxsqueeze.measure.prune_readers import readers
from onnxsqueeze.numerics.importance import grouped, normalised
from onnxsqueeze.numerics.information import components
from study.case import Case

Array = npt.NDArray[Any]
Scores = Mapping[str, Array]
NEIGHBOURS = 3


def chance(case: Case) -> Scores:
    """Random scores: what any criterion must be better than."""
    rng = np.random.default_rng(0)
    return {one.name: rng.random(one.count) for one in case.units}


def by_neighbours(case: Case) -> Scores:
    """Mutual information by nearest neighbours instead of bins.

    Source:
        Kraskov et al. 2004 and Ross 2014, as in scikit-learn's mutual_info_*.
    """
    found = {one.name: np.zeros(one.count) for one in case.units}
    read = readers(case.model)
    groups = {
        one.name: [(r, u) for r in read.values() if (u := r.unit_of_feature(one)) is not None]
        for one in case.units
    }
    used = {r.name: r for group in groups.values() for r, _ in group}
    features = feature_scores(case.model, case.calibration, list(used.values()), score=_ksg)
    for one in case.units:
        for reader, own in groups[one.name]:
            scores = grouped(features[reader.name], own, one.count, "mean")
            found[one.name] += normalised(scores, "layer")
    return found


def _ksg(features: Array, output: Array) -> Array:
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    settings = {"n_neighbors": NEIGHBOURS, "random_state": 0}
    if output.ndim == 1:
        return np.asarray(mutual_info_classif(features, output, **settings))
    scores, energies = components(output)
    parts = [mutual_info_regression(features, column, **settings) for column in scores.T]
    return np.asarray(np.average(parts, axis=0, weights=energies))


def _ours(case: Case, criterion: Any, aggregation: Any) -> Scores:
    return unit_importance(
        case.model, case.units, case.calibration, criterion, aggregation=aggregation
    )


def ours(criterion: str, aggregation: str = "joint") -> Callable[[Case], Scores]:
    return partial(_ours, criterion=criterion, aggregation=aggregation)


CRITERIA: Mapping[str, Callable[[Case], Scores]] = {
    "chance": chance,
    "l1": ours("l1"),
    "l2": ours("l2"),
    "activation": ours("activation"),
    "taylor": ours("taylor"),
    "taylor, sum of weights": ours("taylor", "sum"),
    "taylor, max of weights": ours("taylor", "max"),
    "fisher": ours("fisher"),
    "fisher, sum of weights": ours("fisher", "sum"),
    "obs": ours("obs"),
    "obs, mean of weights": ours("obs", "mean"),
    "information, bins": ours("information"),
    "information, neighbours": by_neighbours,
}

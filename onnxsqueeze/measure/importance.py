"""How much each weight matters, and each unit, by a criterion, on samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.units import Units
from onnxsqueeze.config import Importance
from onnxsqueeze.data.samples import Samples
from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.gradients.stream import Feeds, weight_gradients
from onnxsqueeze.measure.information import feature_scores
from onnxsqueeze.measure.prune_moments import input_moments
from onnxsqueeze.measure.prune_readers import Reader, consumers, readers, reading
from onnxsqueeze.numerics import importance
from onnxsqueeze.numerics.importance import Aggregation, GradientSums, Normalisation
from onnxsqueeze.numerics.pruning import unit_scores

Array = npt.NDArray[Any]
Scores = dict[str, npt.NDArray[np.float32]]
Tell = Callable[[int, int], None]

UnitAggregation = Literal["joint", "sum", "mean", "max"]
BY_GRADIENT = frozenset({"taylor", "fisher"})
BY_MOMENTS = frozenset({"obs", "activation"})


def weight_importance(
    model: ir.Model,
    samples: Feeds,
    names: Sequence[str],
    criterion: Importance,
    *,
    grams: Mapping[str, Gram] | None = None,
    seed: int = 0,
    progress: Tell | None = None,
) -> Scores:
    """Return how much each entry of weights matters; larger matters more, same shape.

    ``l1``, ``l2``, ``taylor`` and ``fisher`` score any float initializer of the main graph. The
    others need to know what a weight is multiplied with: ``obs``, ``activation`` and
    ``information`` leave out weights that are no matrix product, or that several nodes read.

    Args:
        model: A normalised model.
        samples: Feeds; those of ``data`` bring their labels, which gradients then are of.
        names: Initializers.
        criterion: See ``numerics.importance``; ``information`` is ``|w|`` times what the weight's
            feature tells of the model's output, a product of our own.
        grams: Gram matrices by weight where they are known; others are measured.
        seed: Seed of draws.
        progress: Called with (done, all) of the samples.

    Raises:
        DependencyError: If gradients are needed and torch is not installed.
        ModelError: If gradients are needed and an operator has no torch kernel.
        ValueError: If there is no such criterion.
    """
    weights = {name: _values(model, name) for name in names}
    if criterion == "l1":
        return {name: importance.l1(w) for name, w in weights.items()}
    if criterion == "l2":
        return {name: importance.l2(w) for name, w in weights.items()}
    if criterion in BY_GRADIENT:
        sums = {name: GradientSums() for name in names}
        for products in _products(model, weights, samples, seed, progress):
            for name, product in products.items():
                sums[name].add(product)
        return {name: _told(one, criterion) for name, one in sums.items()}
    read = [one for name, one in readers(model).items() if name in weights]
    if criterion in BY_MOMENTS:
        return _by_moments(model, samples, read, criterion, grams or {}, seed, progress)
    if criterion == "information":
        features = feature_scores(model, samples, read, progress)
        return {
            one.name: _tensor(one, importance.l1(matrices) * features[one.name][:, None])
            for one, matrices in ((one, one.matrix(weights[one.name])) for one in read)
            if one.name in features
        }
    raise ValueError(f"no importance is called {criterion!r}")


def unit_importance(
    model: ir.Model,
    units: Sequence[Units],
    samples: Feeds,
    criterion: Importance,
    *,
    aggregation: UnitAggregation = "joint",
    normalisation: Normalisation = "layer",
    seed: int = 0,
    progress: Tell | None = None,
) -> dict[str, Array]:
    """Return how much each unit matters, (count,) by group; groups that nothing reads have none.

    What counts are the weights that read the unit. ``joint`` takes them as going together: for
    ``taylor`` and ``fisher`` w·g is summed over them before its size is taken, as of one gate, for
    ``obs`` it is the error once all are gone and the others make up for them; for the other
    criteria it is ``mean``. Scores of weights are normalised per reader, then summed
    over the readers of a group.

    Args:
        model: A normalised model.
        units: Groups of units.
        samples: Feeds.
        criterion: See ``weight_importance``; for ``information`` weights do not count, only what
            the features of a unit tell.
        aggregation: How the scores of a unit's weights add up.
        normalisation: Across the readers of a group.
        seed: Seed of draws.
        progress: Called with (done, all) of the samples.

    Source:
        Gates: Molchanov et al. 2019 (arXiv:1906.10771), eq. 8. Blocks: Kurtic et al. 2023, ZipLM
        (arXiv:2302.04089), eq. 3.
    """
    every = readers(model)
    groups = {one.name: list(reading(every, one)) for one in units}
    groups = {name: found for name, found in groups.items() if found}
    counts = {one.name: one.count for one in units}
    names = list(dict.fromkeys(reader.name for found in groups.values() for reader, _ in found))
    if aggregation == "joint" and criterion in BY_GRADIENT:
        gates = {name: GradientSums() for name in groups}
        weights = {name: _values(model, name) for name in names}
        for products in _products(model, weights, samples, seed, progress):
            for name, found in groups.items():
                gates[name].add(_gates(found, products, counts[name]))
        return {name: _told(one, criterion) for name, one in gates.items()}
    if aggregation == "joint" and criterion == "obs":
        return _blocks(model, samples, groups, counts, seed, progress)
    features = _features(model, samples, groups, names, criterion, seed, progress)
    how: Aggregation = "mean" if aggregation == "joint" else aggregation
    return {
        name: _summed(found, features, counts[name], how, normalisation)
        for name, found in groups.items()
        if any(reader.name in features for reader, _ in found)
    }


def _blocks(
    model: ir.Model,
    samples: Feeds,
    groups: Mapping[str, Sequence[tuple[Reader, Array]]],
    counts: Mapping[str, int],
    seed: int,
    progress: Tell | None,
) -> dict[str, Array]:
    """Return by group what each unit loses if it alone goes, see ``numerics.pruning``."""
    read = {reader.name: reader for found in groups.values() for reader, _ in found}
    known = input_moments(model, list(read.values()), samples, seed=seed, progress=progress)
    matrices = {name: consumers(found, known) for name, found in groups.items()}
    return {
        name: unit_scores(found, counts[name], "obs") for name, found in matrices.items() if found
    }


def _features(
    model: ir.Model,
    samples: Feeds,
    groups: Mapping[str, Sequence[tuple[Reader, Array]]],
    names: Sequence[str],
    criterion: Importance,
    seed: int,
    progress: Tell | None,
) -> dict[str, Array]:
    """Return scores of matrices by weight, (groups, out, features); (groups, 1, features) too."""
    found = {reader.name: reader for group in groups.values() for reader, _ in group}
    if criterion == "information":
        scores = feature_scores(model, samples, list(found.values()), progress)
        return {name: one[:, None] for name, one in scores.items()}
    tensors = weight_importance(model, samples, names, criterion, seed=seed, progress=progress)
    return {name: found[name].matrix(one) for name, one in tensors.items()}


def _gates(
    found: Sequence[tuple[Reader, Array]], products: Mapping[str, Array], count: int
) -> Array:
    """Return the sum of w·g over all weights that read each unit."""
    total = np.zeros(count)
    for reader, own in found:
        columns = reader.matrix(products[reader.name]).sum(axis=1, dtype=np.float64)
        total += importance.grouped(columns, own, count, "sum")
    return total


def _summed(
    found: Sequence[tuple[Reader, Array]],
    features: Mapping[str, Array],
    count: int,
    aggregation: Aggregation,
    normalisation: Normalisation,
) -> Array:
    total = np.zeros(count)
    for reader, own in found:
        if reader.name in features:
            scores = features[reader.name]
            units = np.broadcast_to(own[:, None], scores.shape)
            grouped = importance.grouped(scores, units, count, aggregation)
            total += importance.normalised(grouped, normalisation)
    return total


def _products(
    model: ir.Model,
    weights: Mapping[str, Array],
    samples: Feeds,
    seed: int,
    progress: Tell | None,
) -> Iterator[dict[str, Array]]:
    """Yield w·g of each weight, for each sample."""
    labels = samples.labels if isinstance(samples, Samples) else None
    stream = weight_gradients(
        model, list(weights), samples, labels=labels, seed=seed, progress=progress
    )
    for gradients in stream:
        yield {name: weights[name] * g for name, g in gradients.items()}


def _by_moments(
    model: ir.Model,
    samples: Feeds,
    read: Sequence[Reader],
    criterion: Importance,
    grams: Mapping[str, Gram],
    seed: int,
    progress: Tell | None,
) -> Scores:
    known = {one.name: grams[one.name].matrix for one in read if _fits(one, grams)}
    missing = [one for one in read if one.name not in known]
    measured = input_moments(model, missing, samples, seed=seed, progress=progress)
    known |= {
        name: np.stack([(fit + held).gram for fit, held in parts])
        for name, parts in measured.items()
    }
    score = importance.obs if criterion == "obs" else importance.activation
    found = {}
    for one in read:
        if one.name in known:
            pairs = zip(one.matrix(one.weight()), known[one.name], strict=True)
            found[one.name] = _tensor(one, np.stack([score(w, gram) for w, gram in pairs]))
    return found


def _fits(reader: Reader, grams: Mapping[str, Gram]) -> bool:
    """Return whether a known Gram matrix is of the rows that the reader takes."""
    groups, _, features = reader.dims
    return reader.name in grams and grams[reader.name].matrix.shape[:2] == (groups, features)


def _tensor(reader: Reader, scores: Array) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(reader.tensor(scores), np.float32)


def _told(sums: GradientSums, criterion: str) -> npt.NDArray[np.float32]:
    return np.asarray(sums.taylor() if criterion == "taylor" else sums.fisher(), np.float32)


def _values(model: ir.Model, name: str) -> Array:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None  # ONNX: an initializer has a value
    return tensor.numpy()

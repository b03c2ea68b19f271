"""By how much axes are scaled, chosen by what the layers that read them then lose.

A grid of an activation is as coarse as its largest entries make it. Where a few entries hold the
large values, dividing them, and multiplying the weights that read them, makes all others finer;
weights that keep a scale per output channel notice little. How far to go is tried for each group
of layers that read the same: candidates are made of the even samples, and the error of the
layers' outputs, with inputs and weights on their grids, is taken on the odd ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.analysis.regions import joints
from onnxsqueeze.analysis.scalable import Part, Scalable, scalable
from onnxsqueeze.analysis.weights import Weight, weights
from onnxsqueeze.data.samples import evenly
from onnxsqueeze.measure.grams import Samples, exposing, with_exposed
from onnxsqueeze.numerics.scaling import (
    activation_aware,
    equalizing,
    from_steps,
    migrating,
    to_steps,
)
from onnxsqueeze.passes.insert_qdq import activation_grid
from onnxsqueeze.passes.round_weights import codes
from onnxsqueeze.passes.scale_axes import per_feature
from onnxsqueeze.plan.types import INTEGER_FORMS, Plan, ScalingChoice, WeightChoice
from onnxsqueeze.runtime.shapes import Shape

Array = npt.NDArray[Any]

MOST_SAMPLES = 16
ROWS_PER_SAMPLE = 64
ALPHAS = (0.2, 0.35, 0.5, 0.65, 0.8)
LEAST_GAIN = 0.9
"""A scaling that leaves more of a layer's error energy than this is not worth its risk."""


@dataclass(frozen=True)
class _Seen:
    """What was seen of one tensor, in even samples and in odd ones.

    Attributes:
        low: Least value of each entry in each sample, shape (samples, entries).
        high: Largest value of each, the same shape.
        rows: By reading weight, some rows of each sample, (groups, rows, features).
    """

    low: Array
    high: Array
    rows: Mapping[str, Sequence[Array]]

    def largest(self) -> Array:
        """Return the largest magnitude of each entry in even samples."""
        every: Array = np.maximum(self.high, -self.low)[::2].max(axis=0)
        return every

    def ends(self, scale: Array, number: int | None) -> tuple[float, float]:
        """Return the ends of a scaled tensor's grid: in one sample, or over the even ones."""
        rows = slice(0, None, 2) if number is None else [number]
        return float((self.low[rows] / scale).min()), float((self.high[rows] / scale).max())


def scalings(
    plan: Plan,
    model: ir.Model,
    samples: Samples,
    shapes: Mapping[str, Shape],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, ScalingChoice]:
    """Return how axes are scaled that integer kernels, or stored weights, then gain from.

    A group is scaled where its layers' error energy falls by a tenth or more. Left alone: what
    stays float; stored weights with a scale per column, which have the same for nothing; and,
    where a product of its own would be needed, readers that are no integer kernels, and tensors
    that another kernel makes or reads on the same grid.

    Args:
        plan: How weights and activations are kept.
        model: A normalised model; it stays as it is.
        samples: Feeds, of which up to ``MOST_SAMPLES`` are run.
        shapes: Measured shape of every tensor.
        seed: Seed of the choice of rows.
        progress: Called with (done, all) of the groups.
    """
    known = {weight.name: weight for weight in weights(model)[0] if weight.linear is not None}
    between = _between(plan, model)
    groups = [
        group
        for group in scalable(model, shapes)[0]
        if _gains(plan, group, known) and not (group.obstacle and group.name in between)
    ]
    if not groups:
        return {}
    seen = _observed(model, groups, known, samples, seed)
    found: dict[str, ScalingChoice] = {}
    for number, group in enumerate(groups):
        task = _Task(model, plan, group, [known[name] for name in group.readers], seen[group.name])
        choice = _best(task)
        if choice is not None:
            found[group.name] = choice
        if progress is not None:
            progress(number + 1, len(groups))
    return found


def _gains(plan: Plan, group: Scalable, known: Mapping[str, Weight]) -> bool:
    """Return whether a group's readers can gain by a scale, from the forms that they have."""
    choices = [plan.weights.get(name) for name in group.readers]
    if not choices or any(name not in known for name in group.readers):
        return False
    if group.obstacle:
        return all(one is not None and one.form in INTEGER_FORMS for one in choices)
    return any(one is not None and _is_coarse(one) for one in choices)


def _between(plan: Plan, model: ir.Model) -> set[str]:
    """Return the tensors whose grids kernels other than their linear readers write or read."""
    candidates = integer_candidates(model)
    found = {str(one.closes) for one in candidates if one.weight in plan.weights}
    for joint in joints(model, candidates):
        if joint.y in plan.joined:
            found |= {*joint.reads, joint.closes}
    return found


def _is_coarse(choice: WeightChoice) -> bool:
    """Return whether large entries make others coarse: on one grid, in one row without columns."""
    return choice.form in INTEGER_FORMS or (choice.form == "stored" and not choice.columns)


def _observed(
    model: ir.Model,
    groups: Sequence[Scalable],
    known: Mapping[str, Weight],
    samples: Samples,
    seed: int,
) -> dict[str, _Seen]:
    """Return what is seen of the groups' tensors in some samples; those not finite count as 0."""
    chosen = evenly(len(samples), min(len(samples), MOST_SAMPLES))
    lows: dict[str, list[Array]] = {group.name: [] for group in groups}
    highs: dict[str, list[Array]] = {group.name: [] for group in groups}
    rows: dict[str, dict[str, list[Array]]] = {g.name: {r: [] for r in g.readers} for g in groups}
    made, rng = exposing(model, [group.name for group in groups]), np.random.default_rng(seed)
    for index in chosen:
        values = with_exposed(made, samples[index])
        for group in groups:
            x = np.nan_to_num(values[group.name], posinf=0, neginf=0)
            for name, kept in rows[group.name].items():
                weight = known[name]
                assert weight.linear is not None  # groups with others were left out
                kept.append(weight.linear.rows(weight.node, x, weight.shape, ROWS_PER_SAMPLE, rng))
            axis = known[group.readers[0]].linear.x_axis  # type: ignore[union-attr]
            flat = np.moveaxis(x, axis, -1).reshape(-1, group.dim)
            lows[group.name].append(flat.min(axis=0))
            highs[group.name].append(flat.max(axis=0))
    return {
        group.name: _Seen(
            np.stack(lows[group.name]), np.stack(highs[group.name]), rows[group.name]
        )
        for group in groups
    }


@dataclass(frozen=True)
class _Task:
    """One group, with the weights that read it."""

    model: ir.Model
    plan: Plan
    group: Scalable
    readers: Sequence[Weight]
    seen: _Seen

    def candidates(self) -> dict[str, Array]:
        """Return scales by the way that they were chosen."""
        seen, read = self.seen.largest(), self._largest(is_divided=False)
        sizes = np.sqrt(np.square(np.maximum(self.seen.high, -self.seen.low)[::2]).mean(axis=0))
        found = {f"activations moved by {a}": migrating(seen, read, a) for a in ALPHAS}
        if not self.group.obstacle:
            found |= {f"weights by inputs^{a}": activation_aware(sizes, a) for a in ALPHAS}
            made = self._largest(is_divided=True)
            if made.any():
                found["ranges of weights made equal"] = equalizing(made, read)
        return found

    def _largest(self, *, is_divided: bool) -> Array:
        """Return the largest magnitude of the weights that make, or read, each entry."""
        largest = np.zeros(self.group.dim)
        for part in self.group.parts:
            tensor = self.model.graph.initializers[part.name].const_value
            assert tensor is not None  # parts are constants
            if part.is_divided == is_divided and len(tensor.shape) > 1:
                largest = np.maximum(largest, _along(tensor.numpy(), part))
        return largest

    def error(self, scale: Array) -> float:
        """Return the error energy of the readers' outputs on odd samples, as a part of them."""
        lost = [self._error(weight, scale) for weight in self.readers]
        return float(np.sum(lost))

    def _error(self, weight: Weight, scale: Array) -> float:
        assert weight.linear is not None  # groups with others were left out
        assert weight.value.const_value is not None  # ONNX: an initializer has a value
        linear, node = weight.linear, weight.node
        before = linear.matrix(node, weight.value.const_value.numpy().astype(np.float32))
        factors = per_feature(weight.value, self.group, scale).astype(np.float32)
        choice = self.plan.weights.get(weight.name)
        after = before * factors[:, None, :]
        if choice is not None and choice.form in ("stored", *INTEGER_FORMS):
            nearest = choice.model_copy(update={"rounding": "nearest"})
            made = codes(linear.tensor(node, after, weight.shape), nearest, None)
            after = linear.matrix(node, made.values(weight.shape, choice.axis))
        lost = total = 0.0
        for number, x in enumerate(self.seen.rows[weight.name]):
            if number % 2 or len(self.seen.rows[weight.name]) == 1:
                wanted = np.matmul(x, before.transpose(0, 2, 1))
                now = self._on_grid(x / factors[:, None, :], choice, scale, number)
                lost += float(np.square(np.matmul(now, after.transpose(0, 2, 1)) - wanted).sum())
                total += float(np.square(wanted).sum())
        return lost / total if total else 0.0

    def _on_grid(self, x: Array, choice: WeightChoice | None, scale: Array, number: int) -> Array:
        if choice is None or choice.form not in ("qdq", "dynamic"):
            return x  # those of blockwise kernels have a grid for each row and block
        ends = self.seen.ends(scale, number if choice.form == "dynamic" else None)
        step, zero = activation_grid(*ends)
        held = (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step
        result: Array = held.astype(np.float32)
        return result


def _along(values: Array, part: Part) -> Array:
    """Return the largest magnitude of each entry of a part's axis."""
    others = tuple(axis for axis in range(values.ndim) if axis != part.axis)
    result: Array = np.abs(values).max(axis=others).astype(np.float64)
    return result


def _best(task: _Task) -> ScalingChoice | None:
    """Return the scaling that loses least, or None where none of them gains enough."""
    plain = task.error(np.ones(task.group.dim))
    best, least, way = None, LEAST_GAIN * plain, ""
    for name, scale in task.candidates().items():
        steps = to_steps(scale)
        error = task.error(from_steps(steps))
        if error < least:
            best, least, way = steps, error, name
    if best is None or not any(best):
        return None
    gain = 10 * np.log10(plain / max(least, 1e-30))
    reason = f"{way}: {gain:.1f} dB less error of what reads it"
    return ScalingChoice(steps=best, inserted=bool(task.group.obstacle), reason=reason)

"""Gradients by weights, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.gradients.executor import Executor
from onnxsqueeze.gradients.target import drawn, labelled
from onnxsqueeze.numerics.metrics import Kind, output_kinds
from onnxsqueeze.ops.torch_call import Tensor, torch

Array = npt.NDArray[Any]
Feeds = Sequence[Mapping[str, Array]]

LOOKS = 16
"""Samples, evenly spaced, on which the kinds of the outputs are judged."""


def weight_gradients(
    model: ir.Model,
    names: Sequence[str],
    samples: Feeds,
    *,
    labels: Array | None = None,
    draws: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[dict[str, Array]]:
    """Yield gradients by weights, for each sample and draw, of what ``target`` says.

    A weight that no output depends on has a gradient of zeros. One that is drawn on an infinite
    or undefined output counts as zeros, too.

    Args:
        model: The model; subgraphs and dynamic shapes are allowed.
        names: Initializers of the main graph, floats.
        samples: Feeds; memory is that of one forward and backward pass.
        labels: One entry per sample; the cross entropy with it is differentiated. None for the
            original's own outputs, see ``target.drawn``.
        draws: Backward passes per sample; one with labels.
        seed: Seed of the draws.
        progress: Called with (done, all) of the samples.

    Raises:
        DataError: If labels do not fit the outputs.
        DependencyError: If torch is not installed.
        ModelError: If an operator has no torch kernel, or refuses its inputs.
    """
    made = Executor(model)
    weights = {name: made.weight(name).clone().requires_grad_(True) for name in names}
    kinds = _kinds(made, samples)
    passes = 1 if labels is not None else draws
    for index in range(len(samples)):
        rng = np.random.default_rng([seed, index])
        outputs = made.run(samples[index], weights=weights)
        for number in range(passes):
            if labels is None:
                target = drawn(outputs, kinds, rng)
            else:
                target = labelled(outputs, kinds, labels[index])
            yield _backward(target, weights, keep=number < passes - 1)
        if progress is not None:
            progress(index + 1, len(samples))


def _backward(target: Tensor, weights: Mapping[str, Tensor], *, keep: bool) -> dict[str, Array]:
    if not target.requires_grad:
        return {name: np.zeros(tuple(w.shape), np.float32) for name, w in weights.items()}
    found = torch.autograd.grad(
        target, list(weights.values()), retain_graph=keep, allow_unused=True
    )
    return {
        name: np.zeros(tuple(w.shape), np.float32) if g is None else _finite(g.numpy())
        for (name, w), g in zip(weights.items(), found, strict=True)
    }


def _finite(gradient: Array) -> Array:
    return gradient if np.isfinite(gradient).all() else np.zeros_like(gradient)


def _kinds(made: Executor, samples: Feeds) -> Mapping[str, Kind]:
    count = min(LOOKS, len(samples))
    looks = []
    with torch.no_grad():
        for number in range(count):
            outputs = made.run(samples[number * len(samples) // count])
            looks.append({name: y.numpy() for name, y in outputs.items()})
    return output_kinds(looks)

"""What the features of a weight tell of the model's output, from one value per sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.measure.grams import Samples, exposing, with_exposed
from onnxsqueeze.measure.prune_readers import Reader
from onnxsqueeze.numerics.information import feature_information
from onnxsqueeze.numerics.metrics import is_float, output_kinds
from onnxsqueeze.runtime import ort

Array = npt.NDArray[Any]
Score = Callable[[Array, Array], Array]


def feature_scores(
    model: ir.Model,
    samples: Samples,
    readers: Sequence[Reader],
    progress: Callable[[int, int], None] | None = None,
    score: Score = feature_information,
) -> dict[str, Array]:
    """Return the mutual information of each feature with the output, (groups, features) by weight.

    A channel counts by its mean over all places of a sample, and all places of a kernel by their
    channel; the output by its class where it is one row of classes, else by its mean over all axes
    but the last.

    Args:
        model: The model.
        samples: Feeds; several hundred are needed for more than noise.
        readers: Weights.
        progress: Called with (done, all) of the samples.
        score: ``(features, output) -> information``, see ``feature_information``.
    """
    if not readers:
        return {}
    inputs, outputs = sample_means(model, samples, readers, progress)
    output = output_values(outputs)
    found: dict[str, Array] = {}
    by_tensor: dict[tuple[str, int], Array] = {}
    for reader in readers:
        key = (reader.x, reader.linear.x_axis)
        if key not in by_tensor:
            by_tensor[key] = score(inputs[key], output)
        groups, _, features = reader.dims
        channels = by_tensor[key].reshape(groups, -1)
        found[reader.name] = np.repeat(channels, features // channels.shape[1], axis=1)
    return found


def sample_means(
    model: ir.Model,
    samples: Samples,
    readers: Sequence[Reader],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[tuple[str, int], Array], list[Mapping[str, Array]]]:
    """Return inputs of weights by (tensor, axis), (samples, channels), and all outputs."""
    keys = list(dict.fromkeys((one.x, one.linear.x_axis) for one in readers))
    names = [str(out.name) for out in model.graph.outputs]
    made = exposing(model, [*names, *(name for name, _ in keys)])
    columns: dict[tuple[str, int], list[Array]] = {key: [] for key in keys}
    outputs: list[Mapping[str, Array]] = []
    for index, feed in enumerate(samples):
        values = with_exposed(made, feed)
        for key in keys:
            x = np.moveaxis(np.asarray(values[key[0]]), key[1], -1)
            columns[key].append(x.reshape(-1, x.shape[-1]).mean(axis=0))
        outputs.append(ort.kept({name: values[name] for name in names}))
        if progress is not None:
            progress(index + 1, len(samples))
    return {key: np.nan_to_num(np.stack(rows)) for key, rows in columns.items()}, outputs


def output_values(outputs: Sequence[Mapping[str, Array]]) -> Array:
    """Return a class per sample, (samples,), or a vector, (samples, dims): of the first floats."""
    kinds = output_kinds(outputs)
    name = next((one for one, value in outputs[0].items() if is_float(np.asarray(value))), None)
    if name is None:
        texts = [str([np.asarray(value).tolist() for value in one.values()]) for one in outputs]
        codes: Array = np.unique(texts, return_inverse=True)[1]
        return codes
    values = [np.asarray(one[name], np.float64) for one in outputs]
    rows = [value.reshape(-1, value.shape[-1] if value.ndim else 1) for value in values]
    if kinds[name] == "classes" and all(len(one) == 1 for one in rows):
        return np.array([int(one.argmax()) for one in rows])
    if len({one.shape[1] for one in rows}) > 1:
        return np.array([[one.mean()] for one in rows])
    means: Array = np.nan_to_num(np.stack([one.mean(axis=0) for one in rows]))
    return means

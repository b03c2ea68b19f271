"""Does a sample fit the model's inputs: names, types, shapes, symbols, and finite values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxsqueeze.data.reader import Array, Feed, Header, header
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec

# NumPy makes float64 where nothing else was asked for; float32 is what was meant.
_CASTS = {("float64", "float32"), ("int32", "int64"), ("int64", "int32")}


def needs(specs: Sequence[InputSpec]) -> str:
    """Return the line of a message that lists what the model needs."""
    return "  The model needs: " + "; ".join(str(spec) for spec in specs) + "."


def misfit(first: str, place: str, specs: Sequence[InputSpec], advice: str) -> DataError:
    """Return the error for one thing that does not fit, in the house's order of lines."""
    return DataError(f"{first}\n  Found in {place}.\n{needs(specs)}\n  {advice}")


def check_names(names: Sequence[str], specs: Sequence[InputSpec], place: str) -> None:
    """Raise DataError unless ``names`` are exactly the model's inputs."""
    wanted = [spec.name for spec in specs]
    unknown = sorted(set(names) - set(wanted))
    missing = [name for name in wanted if name not in names]
    if unknown:
        close = difflib.get_close_matches(unknown[0], missing or wanted, 1, 0.5)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise misfit(
            f"{unknown[0]!r} is no input of the model{meant}",
            place,
            specs,
            f"Rename or leave out: {', '.join(map(repr, unknown))}.",
        )
    if missing:
        found = ", ".join(map(repr, names)) or "nothing"
        raise misfit(
            f"input {missing[0]!r} is missing, found only {found}",
            place,
            specs,
            f"Add: {', '.join(map(repr, missing))}.",
        )


def is_castable(found: np.dtype[Any], needed: np.dtype[Any]) -> bool:
    """Return whether values of type ``found`` may be fed as ``needed``.

    Integers must stay the same; float64 is rounded to float32 if that is within its range.

    Example:
        >>> is_castable(np.dtype("int32"), np.dtype("int64"))
        True
        >>> is_castable(np.dtype("float32"), np.dtype("float16"))
        False
    """
    if found == needed or (found.name, needed.name) in _CASTS:
        return True
    if needed.hasobject:
        return found.kind == "U"
    # NumPy's file format keeps bfloat16 and its like as plain bytes of the same size.
    return found.type is np.void and needed.kind == "V" and found.itemsize == needed.itemsize


def check_header(found: Header, specs: Sequence[InputSpec], place: str) -> None:
    """Raise DataError unless names, types, ranks, fixed dimensions and symbols fit the model."""
    check_names(list(found), specs, place)
    symbols: dict[str, tuple[int, str]] = {}
    for spec in specs:
        dtype, shape = found[spec.name]
        if not is_castable(dtype, spec.dtype):
            raise misfit(
                f"input {spec.name!r} is {dtype}, and the model needs {spec.dtype}",
                place,
                specs,
                f"Convert the samples, for example with array.astype({spec.dtype.name!r}).",
            )
        if spec.shape is not None:
            _check_shape(spec, spec.shape, shape, symbols, place, specs)


def _check_shape(
    spec: InputSpec,
    wanted: tuple[int | str | None, ...],
    shape: tuple[int, ...],
    symbols: dict[str, tuple[int, str]],
    place: str,
    specs: Sequence[InputSpec],
) -> None:
    if len(shape) != len(wanted):
        raise misfit(
            f"input {spec.name!r} has rank {len(shape)}, shape {list(shape)}, "
            f"and the model needs rank {len(wanted)}",
            place,
            specs,
            "Reshape the samples; one sample has exactly the model's axes, batch axis included.",
        )
    for axis, (size, dim) in enumerate(zip(shape, wanted, strict=True)):
        if isinstance(dim, int) and size != dim:
            raise misfit(
                f"input {spec.name!r} has size {size} on axis {axis}, shape {list(shape)}, "
                f"and the model needs {dim}",
                place,
                specs,
                "Resize, pad or cut the samples, or export the model with a free axis there.",
            )
        if isinstance(dim, str):
            first, name = symbols.setdefault(dim, (size, spec.name))
            if first != size:
                raise misfit(
                    f"{dim!r} is {first} in input {name!r} and {size} in input {spec.name!r}",
                    place,
                    specs,
                    "Axes with one symbol must have one size within a sample.",
                )


def fitted(feed: Mapping[str, Array], specs: Sequence[InputSpec], place: str) -> Feed:
    """Return the feed in the model's order and types, or raise DataError if it does not fit."""
    check_header(header(feed), specs, place)
    return {spec.name: _fitted_array(feed[spec.name], spec, specs, place) for spec in specs}


def _fitted_array(array: Array, spec: InputSpec, specs: Sequence[InputSpec], place: str) -> Array:
    if array.dtype.type is np.void:
        array = array.view(spec.dtype)
    if "float" in array.dtype.name or array.dtype.kind in "fc":
        bad = int(np.count_nonzero(~np.isfinite(array)))
        if bad:
            raise misfit(
                f"input {spec.name!r} holds NaN or infinity in {bad} of {array.size} values",
                place,
                specs,
                "Leave the sample out, or repair what made it.",
            )
    if array.dtype == spec.dtype:
        return array
    with np.errstate(over="ignore", under="ignore"):
        cast = array.astype(spec.dtype)
    is_wrong = ~np.isfinite(cast) if array.dtype.kind == "f" else cast != array
    changed = int(np.count_nonzero(is_wrong))
    if changed:
        raise misfit(
            f"input {spec.name!r} is {array.dtype}, and {changed} of {array.size} values do not "
            f"fit into {spec.dtype}",
            place,
            specs,
            f"Make the samples {spec.dtype} yourself.",
        )
    return cast


def cast_notes(found: Header, specs: Sequence[InputSpec]) -> tuple[str, ...]:
    """Return one sentence per input whose type in the samples is not the model's."""
    return tuple(
        f"input {spec.name!r} is {found[spec.name][0]} in the samples and is cast to {spec.dtype}"
        for spec in specs
        if found[spec.name][0] != spec.dtype and found[spec.name][0].kind not in "VU"
    )

"""Metrics of the user's own: a function, imported by name, called once per sample and model."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.errors import DataError

Array = npt.NDArray[Any]
Function = Callable[[Mapping[str, Any], Any], float]

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def imported(name: str, named: Sequence[str]) -> Function:
    """Return the function called ``package.module:function``.

    Raises:
        DataError: If the name has another form, or nothing that can be called is found under it.
    """
    if not _NAME.fullmatch(name):
        raise DataError(
            f"there is no metric {name!r}: it is none of {', '.join(named)},"
            " nor package.module:function\n"
            "  A function of your own is named as my_metrics:word_accuracy."
        )
    module, attribute = name.split(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, SyntaxError, AttributeError) as error:
        raise DataError(
            f"metric {name!r} cannot be imported: {error}\n"
            "  The module must be installed, or its folder be on PYTHONPATH."
        ) from error
    if not callable(function):
        raise DataError(
            f"metric {name!r} is a {type(function).__name__}, and cannot be called\n"
            "  Name a function of (outputs by name, label or None) that returns a number."
        )
    found: Function = function
    return found


def score_own(
    name: str,
    function: Function,
    original: Mapping[str, Any],
    result: Mapping[str, Any],
    label: Any,
) -> Array:
    """Return [[original's value, what the result lost of it, 1]]; a result of NaN loses all.

    Raises:
        DataError: If the function returns no number, or for the original none that is finite.
    """
    before = _number(name, function(original, label))
    if not np.isfinite(before):
        raise DataError(
            f"metric {name!r} gives {before} for the original model\n"
            "  It must be a number for every sample, so that a loss can be told."
        )
    after = _number(name, function(result, label))
    lost = before - after if np.isfinite(after) else float("inf")
    return np.array([[before, lost, 1.0]])


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"metric {name!r} returns {type(value).__name__}, and must return a number: {error}\n"
            "  It is called with (outputs by name, label or None)."
        ) from error

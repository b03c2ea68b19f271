"""Samples from the user's own code, ``package.module:function``: it is imported and run."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onnxsqueeze.data.decoders import columns_reader
from onnxsqueeze.data.feeds import guarded, list_reader, spooled_reader
from onnxsqueeze.data.reader import Reader
from onnxsqueeze.data.stacked import ArrayColumn
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_function_name(text: str) -> bool:
    r"""Return whether ``text`` has the form ``package.module:function``.

    Example:
        >>> is_function_name("mine.data:feeds"), is_function_name("data/calib.npz")
        (True, False)
        >>> is_function_name(r"C:\calib.npz")
        False
    """
    return _NAME.fullmatch(text) is not None


def function_reader(name: str, specs: Sequence[InputSpec], limit: int | None) -> Reader:
    """Return a reader of what the function returns or yields; the current folder is searched too.

    The function takes no arguments. It gives feeds or ``(feed, label)`` pairs, as a list or as a
    generator (written to a temporary folder once), or one mapping with all samples stacked.

    Raises:
        DataError: If the function is not found or raises, or gives something else.
    """
    with _current_folder_importable():
        function = _function(name)
        result = _called(function, name)
        if isinstance(result, Mapping):
            columns = {str(key): ArrayColumn(np.asarray(value)) for key, value in result.items()}
            return columns_reader(columns, specs, name)
        if not isinstance(result, Iterable) or isinstance(result, str | bytes | np.ndarray):
            raise DataError(
                f"{name} returned a {type(result).__name__}, and feeds are needed\n"
                "  Yield or return mappings from input name to array."
            )
        if isinstance(result, list):
            return list_reader(result, name)
        return spooled_reader(guarded(result, name), specs, name, limit)


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    # An installed command does not search the current folder, where the user's file usually is.
    here = str(Path.cwd())
    if here in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _function(name: str) -> Any:
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    # Importing runs the user's code, which may raise anything.
    except Exception as error:
        raise DataError(
            f"{module_name} cannot be imported: {type(error).__name__}: {error}\n"
            f"  It is named by {name!r}; searched were the installed packages and {Path.cwd()}.\n"
            "  Check the name, and that `python -c 'import " + module_name + "'` works here."
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            public = [entry for entry in vars(found) if not entry.startswith("_")]
            raise DataError(
                f"{module_name} has no {path!r}\n"
                f"  It has: {', '.join(public[:10]) or 'nothing'}.\n  Check {name!r}."
            )
        found = getattr(found, part)
    if not callable(found):
        raise DataError(
            f"{name} is a {type(found).__name__} and cannot be called\n"
            "  Name a function that takes no arguments and gives feeds."
        )
    return found


def _called(function: Any, name: str) -> Any:
    try:
        return function()
    # The user's code may raise anything, and its own words are what the user needs to read.
    except Exception as error:
        raise DataError(
            f"{name} failed with {type(error).__name__}: {error}\n"
            "  The error is in the code that makes the samples, not in the model."
        ) from error

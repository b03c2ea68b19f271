"""The public names: exported as promised, documented as they are called, and cheap to import."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import onnxsqueeze


def public_names() -> list[str]:
    return list(getattr(onnxsqueeze, "__all__", []))


def described(docstring: str | None, section: str) -> list[str]:
    """Names in one section of a Google docstring, in order; stars are left out."""
    text = inspect.cleandoc(docstring or "")
    found = re.search(rf"^{section}:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    if found is None:
        return []
    body = found.group(1)
    return [name.lstrip("*") for name in re.findall(r"^ {4}(\*{0,2}\w+)[^:\n]*:", body, re.M)]


def argument_faults(function: Callable[..., Any]) -> list[str]:
    """What the docstring's Args say that the signature does not, and the other way round."""
    if not function.__doc__:
        return ["no docstring"]
    expected = list(inspect.signature(function).parameters)
    found = described(function.__doc__, "Args")
    faults = [
        f"Args describe {name}, which is no parameter" for name in found if name not in expected
    ]
    faults += [f"Args leave out {name}" for name in expected if name not in found]
    if not faults and found != expected:
        faults.append(f"Args come as {found}, parameters as {expected}")
    return faults


def test_all_names_what_is_there_once() -> None:
    names = public_names()
    assert len(names) == len(set(names))
    assert "compress" in names
    assert [name for name in names if not hasattr(onnxsqueeze, name)] == []


def test_nothing_is_public_that_is_not_in_all() -> None:
    visible = {
        name
        for name, value in vars(onnxsqueeze).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert visible == {name for name in public_names() if not name.startswith("_")}


@pytest.mark.parametrize("module", ["onnxsqueeze", "onnxsqueeze.cli"])
def test_import_loads_neither_onnxruntime_nor_torch(module: str) -> None:
    code = f"import sys, {module}; print(*{{'onnxruntime', 'torch'}}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_has_a_docstring() -> None:
    values = {name: getattr(onnxsqueeze, name) for name in public_names()}
    documented = {name: value for name, value in values.items() if callable(value)}
    assert documented
    # vars() and not __doc__: a class without a docstring shows that of its base.
    own = {
        name: vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
        for name, value in documented.items()
    }
    assert [name for name, docstring in own.items() if not docstring] == []


def test_args_match_the_signature() -> None:
    functions = {
        name: value
        for name in public_names()
        if inspect.isfunction(value := getattr(onnxsqueeze, name))
    }
    assert functions
    found = {name: argument_faults(function) for name, function in functions.items()}
    assert {name: faults for name, faults in found.items() if faults} == {}


def _good(x: int, *rest: int, y: str = "a") -> None:
    """Return nothing.

    Args:
        x: A number
            over two lines: with a colon.
        *rest: More.
        y (str): A word.

    Raises:
        ValueError: Never.
    """


def _missing(x: int, y: int) -> None:
    """Return nothing.

    Args:
        x: A number.
    """


def _invented(x: int) -> None:
    """Return nothing.

    Args:
        x: A number.
        z: Nothing.
    """


def _swapped(x: int, y: int) -> None:
    """Return nothing.

    Args:
        y: A number.
        x: A number.
    """


def _bare(x: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "faults"),
    [
        (_good, []),
        (_missing, ["Args leave out y"]),
        (_invented, ["Args describe z, which is no parameter"]),
        (_swapped, ["Args come as ['y', 'x'], parameters as ['x', 'y']"]),
        (_bare, ["no docstring"]),
    ],
)
def test_argument_faults_are_found(function: Callable[..., Any], faults: list[str]) -> None:
    assert argument_faults(function) == faults

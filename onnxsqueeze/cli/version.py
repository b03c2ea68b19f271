"""``onnxsqueeze --version``: the package, the engine with its providers, and what reads models."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from onnxsqueeze import __version__
from onnxsqueeze.errors import DependencyError
from onnxsqueeze.runtime import ort

READERS = ("onnx", "onnx-ir", "onnxscript", "numpy")


def version_text() -> str:
    """Return lines of a name and a version; the first is the package's own."""
    lines = [f"onnxsqueeze {__version__}", *_engine()]
    lines += [f"{name} {found}" for name in READERS if (found := _version(name))]
    return "\n".join([*lines, f"python {platform.python_version()}"])


def _engine() -> list[str]:
    try:
        engine = ort.engine()
    except DependencyError:
        return ["onnxruntime not installed: pip install 'onnxsqueeze[cpu]'"]
    package = "onnxruntime-gpu" if _version("onnxruntime-gpu") else "onnxruntime"
    lines = [f"{package} {engine.__version__}"]
    cuda = str(getattr(engine, "cuda_version", ""))
    names = [name.removesuffix("ExecutionProvider") for name in engine.get_available_providers()]
    built = f", built for CUDA {cuda}" if cuda else ""
    # What was compiled in says nothing of what runs: 'doctor' tries each.
    return [*lines, f"providers compiled in: {', '.join(names)}{built}"]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def show_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    """Print the versions and end, when ``--version`` was given."""
    if is_asked and not ctx.resilient_parsing:
        click.echo(version_text())
        ctx.exit()

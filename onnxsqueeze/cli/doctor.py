"""``onnxsqueeze doctor``: what is installed, what really works, what integer kernels do here."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import click
import onnx_ir as ir
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxsqueeze.cli.kernel_tables import advice, exactness, speeds
from onnxsqueeze.cli.progress import Bars
from onnxsqueeze.config import Provider as Asked
from onnxsqueeze.errors import DependencyError, ModelError, OutputError, ProviderError
from onnxsqueeze.facts.kernels import Kernels, summary
from onnxsqueeze.facts.records import Machine
from onnxsqueeze.measure import kernels as measured
from onnxsqueeze.measure import machine as machines
from onnxsqueeze.measure.placement import placement
from onnxsqueeze.report.tables import new_table
from onnxsqueeze.runtime import ort

NEEDED = (
    "onnxsqueeze", "click", "jinja2", "ml-dtypes", "numpy", "onnx", "onnx-ir", "onnxscript",
    "plotly", "pydantic", "rich",
)  # fmt: skip
OPTIONAL = {
    "onnxruntime": ("cpu", "runs models; needed to compress"),
    "onnxruntime-gpu": ("gpu", "runs models on an NVIDIA GPU, instead of onnxruntime"),
    "torch": ("torch", "--importance taylor and fisher, learned rounding"),
    "pillow": ("images", "folders of images as samples"),
}
"""Optional packages: the extra that installs each, and what it is for."""
MEMORY_UNIT = 1 << 30

Probe = Literal["once", "again", "never"]


@dataclass(frozen=True)
class Package:
    """An optional package: its version or None, what it is for, and what installs it."""

    name: str
    version: str | None
    purpose: str
    install: str


@dataclass(frozen=True)
class Provider:
    """A provider that the engine claims: whether it ran a node here, or why not.

    ``idle`` is one that loads and leaves the node to another.
    """

    name: str
    state: Literal["works", "idle", "fails"]
    reason: str


@dataclass(frozen=True)
class Findings:
    """Everything that ``doctor`` found; ``problems`` are sentences, ``kernels`` may be unknown."""

    versions: dict[str, str]
    processor: str
    features: tuple[str, ...]
    machine: Machine | None
    engine: str | None
    providers: tuple[Provider, ...]
    packages: tuple[Package, ...]
    kernels: Kernels | None
    problems: tuple[str, ...]


@click.command()
@click.option(
    "--probe",
    "when",
    type=click.Choice(["once", "again", "never"]),
    default="once",
    show_default=True,
    help="Probe the integer kernels (under a minute): if not yet known, again, or never.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the facts of this machine's kernels, for --target-facts elsewhere.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, nothing else.")
def doctor(when: Probe, output: Path | None, as_json: bool) -> int:
    """Say what is installed, what works, and what this processor's integer kernels do."""
    with Bars(is_shown=not as_json) as progress:
        found = _found(when, progress)
    if output is not None:
        _save(found, output)
    if as_json:
        click.echo(json.dumps(_plain(found), indent=1))
        return 0
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 100))
    console.print(_render(found))
    return 0


def _found(when: Probe, progress: Bars) -> Findings:
    processor, features = machines.processor_and_features(
        machines.CPUINFO.read_text("utf-8", "replace") if machines.CPUINFO.is_file() else ""
    )
    processor = processor or platform.processor() or platform.machine()
    versions = {name: found for name in NEEDED if (found := _version(name))}
    versions["python"] = platform.python_version()
    packages = tuple(
        Package(name, _version(name), purpose, f"pip install 'onnxsqueeze[{extra}]'")
        for name, (extra, purpose) in OPTIONAL.items()
    )
    problems = list(_twice(packages))
    try:
        machine, engine = machines.machine(), str(ort.engine().__version__)
    except DependencyError as error:
        problems.insert(0, str(error))
        return Findings(
            versions, processor, features, None, None, (), packages, None, tuple(problems)
        )
    providers = tuple(_provider(name) for name in machine.providers)
    problems += [
        f"{one.name} is claimed and does not work: {one.reason}"
        for one in providers
        if one.state == "fails"
    ]
    kernels = measured.cached(machine) if when == "never" else None
    if when != "never":
        kernels = measured.kernels(again=when == "again", progress=progress)
    return Findings(
        versions, processor, features, machine, engine, providers, packages, kernels,
        tuple(problems),
    )  # fmt: skip


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _twice(packages: tuple[Package, ...]) -> Iterator[str]:
    engines = [one for one in packages if one.name.startswith("onnxruntime") and one.version]
    if len(engines) > 1:
        yield (
            "onnxruntime and onnxruntime-gpu are both installed and share one import name\n"
            "  Remove both, and install the one that is needed."
        )


def _provider(name: str) -> Provider:
    """Run one product with a provider: the list of providers says only what was compiled in."""
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[2,2] x) => (float[2,2] y) {\n'
    model = ir.from_onnx_text(text + "y = MatMul(x, x) }")
    try:
        ran = placement(model, Asked(name=name, allow_fallback="all")).providers
    except (ProviderError, ModelError) as error:
        first = str(error).splitlines()[0]
        return Provider(name, "fails", first.rpartition(" cannot be used: ")[2])
    if name in ran:
        return Provider(name, "works", "ran a MatMul")
    return Provider(name, "idle", "left a MatMul to " + ", ".join(ran))


def _save(found: Findings, output: Path) -> None:
    if found.kernels is None:
        raise OutputError(
            f"there are no facts to write to {output}: the kernels are not known\n"
            "  Install ONNX Runtime, and leave out '--probe never'."
        )
    try:
        found.kernels.save(output)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {error.strerror}\n  Name a file in a folder that exists."
        ) from error


def _plain(found: Findings) -> dict[str, object]:
    machine = None if found.machine is None else found.machine.model_dump(mode="json")
    kernels = None if found.kernels is None else found.kernels.model_dump(mode="json")
    return {
        "versions": found.versions,
        "engine": found.engine,
        "providers": [asdict(one) for one in found.providers],
        "processor": found.processor,
        "features": list(found.features),
        "machine": machine,
        "packages": [asdict(one) for one in found.packages],
        "problems": list(found.problems),
        "summary": [] if found.kernels is None else list(summary(found.kernels)),
        "kernels": kernels,
    }


def _render(found: Findings) -> Group:
    parts: list[RenderableType] = [_headline(found), Text(""), _installed(found)]
    parts += [Text(""), _packages(found)]
    if found.providers:
        parts += [Text(""), _providers(found)]
    if found.kernels is not None:
        parts += [Text(""), exactness(found.kernels)]
        if found.kernels.speeds:
            parts += [Text(""), speeds(found.kernels)]
        parts += [Text(""), Text(advice(found.kernels))]
    elif found.engine is not None:
        parts += [Text(""), Text("The integer kernels are not known yet: onnxsqueeze doctor")]
    return Group(*parts)


def _headline(found: Findings) -> Text:
    if not found.problems:
        return Text("Everything that is needed is here.", style="bold green")
    style = "bold red" if found.engine is None else "bold yellow"
    return Text("\n".join(found.problems), style=style)


def _installed(found: Findings) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rest = (f"{name} {one}" for name, one in found.versions.items() if name != "onnxsqueeze")
    table.add_row("onnxsqueeze", Text(found.versions.get("onnxsqueeze", "not installed")))
    table.add_row("engine", Text(f"ONNX Runtime {found.engine}" if found.engine else "missing"))
    table.add_row("with", Text(", ".join(rest)))
    table.add_row("processor", Text(found.processor))
    table.add_row("features", Text(" ".join(found.features) or "unknown"))
    if found.machine is not None:
        memory = f"{found.machine.memory_bytes / MEMORY_UNIT:.1f} GiB"
        table.add_row("machine", Text(f"{found.machine.cores} cores, {memory}"))
        table.add_row("system", Text(found.machine.system))
    return table


def _packages(found: Findings) -> Table:
    made = new_table("Optional packages", "package", "version", "what for", "how to install")
    for one in found.packages:
        state = Text(one.version, style="green") if one.version else Text("missing", style="dim")
        made.add_row(one.name, state, one.purpose, Text("" if one.version else one.install))
    return made


def _providers(found: Findings) -> Table:
    made = new_table("Execution providers", "claimed", "really", "why")
    styles = {"works": "green", "idle": "dim", "fails": "red"}
    for one in found.providers:
        made.add_row(Text(one.name), Text(one.state, style=styles[one.state]), Text(one.reason))
    return made

"""One model compressed for several budgets, with all measurements shared between them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from onnxsqueeze import __version__, api
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import ModelError
from onnxsqueeze.graph import io
from onnxsqueeze.measure.load import Loaded
from onnxsqueeze.measure.machine import machine
from onnxsqueeze.outcome import check_output, default_run
from onnxsqueeze.progress import Progress
from onnxsqueeze.report import files
from onnxsqueeze.report import frontier as record
from onnxsqueeze.report.frontier import Frontier, FrontierPoint


@dataclass(frozen=True)
class Walk:
    """What all points of one frontier share.

    Attributes:
        model: The original.
        output: Where results go; each has its budget in its name.
        data: Where samples come from.
        metric: What is not to drop.
        target: Where the results will run.
        limits: What must not be done.
        run: The folder of everything that is measured.
        command: The command line, for the reports.
        progress: Called with (stage, done, all).
    """

    model: Path
    output: Path
    data: DataSettings
    metric: str
    target: Target
    limits: Limits
    run: Path
    command: str
    progress: Progress | None


def named(output: Path, max_drop: float) -> Path:
    """Return where the result for a budget goes.

    Example:
        >>> named(Path("out/small.onnx"), 0.005).name
        'small-0.5%.onnx'
    """
    return output.with_name(f"{output.stem}-{percent(max_drop)}{output.suffix}")


def percent(max_drop: float) -> str:
    """Return a budget as it stands in a file's name: exact to a millionth, without zeros.

    Example:
        >>> percent(0.05), percent(0.0025), percent(0.0)
        ('5%', '0.25%', '0%')
    """
    return f"{100 * max_drop:.4f}".rstrip("0").rstrip(".") + "%"


def spread(count: int, largest: float) -> tuple[float, ...]:
    """Return so many budgets up to the largest, each the same factor over the last, from a tenth.

    Example:
        >>> [percent(one) for one in spread(3, 0.05)]
        ['0.5%', '1.58%', '5%']
    """
    steps = max(count - 1, 1)
    found = (largest * 10 ** (k / steps - 1) for k in range(count))
    return tuple(float(f"{one:.3g}") for one in found) if count > 1 else (largest,)


def compress_for(
    model: Path,
    output: Path,
    data: DataSettings | None = None,
    *,
    budgets: tuple[float, ...],
    metric: str = Budget().metric,
    target: Target | None = None,
    limits: Limits | None = None,
    run: Path | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Frontier:
    """Write one smaller model per budget, and return what each costs and saves.

    Each is made as ``compress`` makes it, the tightest first, in one run folder: what was measured
    for one is known to the next. A point that is done stays: the same call goes on after it.

    Args:
        model: An ONNX file; it is only read.
        output: Names the results: ``small.onnx`` becomes ``small-0.5%.onnx``, ...
        data: Where samples come from.
        budgets: Largest allowed drops, fractions.
        metric: What is not to drop.
        target: Where the results will run.
        limits: What must not be done.
        run: Run folder; default ``NAME.squeeze``. It gets ``frontier.json``, ``frontier.html``,
            and a folder of reports for each budget.
        command: The command line, for the reports.
        progress: Called with (stage, done, all).

    Raises:
        SqueezeError: For all that is wrong with model, samples, settings or outputs.
    """
    walk = Walk(
        model=model,
        output=output,
        data=data or DataSettings(),
        metric=metric,
        target=target or Target(),
        limits=limits or Limits(),
        run=run or default_run(output),
        command=command,
        progress=progress,
    )
    wanted = tuple(sorted(set(budgets)))
    if len({named(output, one) for one in wanted}) < len(wanted):
        raise ValueError(f"budgets must differ by a millionth or more, found {budgets}")
    for one in wanted:
        check_output(model, named(output, one), walk.data)
    frontier = _begun(walk, wanted)
    record.save(frontier, walk.run)
    for one in wanted:
        if not any(point.max_drop == one for point in frontier.points):
            points = sorted([*frontier.points, _made(walk, one)], key=lambda point: point.max_drop)
            frontier = frontier.model_copy(update={"points": tuple(points)})
            record.save(frontier, walk.run)
    return frontier


def _begun(walk: Walk, wanted: tuple[float, ...]) -> Frontier:
    """Return the frontier with the points that are still there from an earlier, equal call."""
    loaded = api.load(walk.model, walk.data, run=walk.run)
    key = _key(walk, loaded)
    known = record.load(walk.run / record.JSON)
    points = () if known is None or known.key != key else known.points
    return Frontier(
        version=__version__,
        key=key,
        command=walk.command,
        original=str(walk.model),
        original_bytes=io.size_bytes(walk.model),
        wanted=wanted,
        points=tuple(point for point in points if _is_there(walk, point, wanted)),
    )


def _is_there(walk: Walk, point: FrontierPoint, wanted: tuple[float, ...]) -> bool:
    path = named(walk.output, point.max_drop)
    is_wanted = point.max_drop in wanted and point.output == str(path)
    if not is_wanted or not path.is_file():
        return False
    try:
        return io.fingerprint(path) == point.sha256
    except ModelError:  # what lies there now is no model, and is made again
        return False


def _key(walk: Walk, loaded: Loaded) -> str:
    asked = {
        "version": __version__,
        "model": loaded.sha256,
        "samples": [loaded.calibration.fingerprint, loaded.held_out.fingerprint],
        "metric": walk.metric,
        "seed": walk.data.seed,
        "target": walk.target.model_dump(mode="json"),
        "limits": walk.limits.model_dump(mode="json"),
        "machine": machine().model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _made(walk: Walk, max_drop: float) -> FrontierPoint:
    start = monotonic()
    made = api.compress(
        walk.model,
        named(walk.output, max_drop),
        walk.data,
        budget=Budget(max_drop=max_drop, metric=walk.metric, seed=walk.data.seed),
        target=walk.target,
        limits=walk.limits,
        run=walk.run,
        command=walk.command,
        progress=walk.progress,
    )
    folder = walk.run / percent(max_drop)
    folder.mkdir(exist_ok=True)
    made.plan.save(folder / "plan.json")
    report = files.save_all(made.report, folder)
    assert report.validation is not None  # compress measures what it writes
    assert report.result is not None
    fidelity, latency = report.validation.fidelity[0], report.validation.latency[:1]
    return FrontierPoint(
        max_drop=max_drop,
        output=str(made.output),
        sha256=report.result.sha256,
        is_met=made.is_met,
        size_bytes=report.result.size_bytes,
        metric=fidelity.metric,
        drop=fidelity.drop,
        speedup=latency[0].speedup if latency else None,
        speed=latency[0].verdict if latency else None,
        seconds=round(monotonic() - start, 3),
        report=str(folder),
    )

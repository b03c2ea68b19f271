"""Reports to and from files; a file is complete or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from onnxsqueeze.errors import OutputError, SqueezeError
from onnxsqueeze.report import html, junit, markdown
from onnxsqueeze.report.types import Report


def save_text(text: str, path: Path) -> None:
    """Write text to a file, moved into place when complete.

    Raises:
        OutputError: If the file cannot be written.
    """
    try:
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        # mkstemp keeps the file to its owner; a report is as readable as any new file.
        mask = os.umask(0)
        os.umask(mask)
        with open(handle, "w", encoding="utf-8", newline="\n") as stream:  # noqa: PTH123
            stream.write(text)
        Path(beside).chmod(0o666 & ~mask)
        Path(beside).replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        Path(beside).unlink(missing_ok=True)


def save_all(report: Report, folder: Path) -> Report:
    """Write the report as JSON, HTML and Markdown; return it with the places of these files.

    Raises:
        OutputError: If one cannot be written.
    """
    places = {
        "plan": str(folder / "plan.json"),
        "report": str(folder / "report.html"),
        "numbers": str(folder / "report.json"),
        "summary": str(folder / "report.md"),
    }
    report = report.model_copy(update={"files": {**report.files, **places}})
    save_json(report, folder / "report.json")
    save_html(report, folder / "report.html")
    save_markdown(report, folder / "report.md")
    return report


def save_json(report: Report, path: Path) -> None:
    """Write the report as JSON, moved into place when complete.

    Raises:
        OutputError: If the file cannot be written.
    """
    save_text(report.model_dump_json(indent=1) + "\n", path)


def save_html(report: Report, path: Path) -> None:
    """Write the report as one HTML file that needs no network, moved into place when complete.

    Raises:
        OutputError: If the file cannot be written.
    """
    save_text(html.render(report), path)


def save_markdown(report: Report, path: Path) -> None:
    """Write the report as short Markdown, moved into place when complete.

    Raises:
        OutputError: If the file cannot be written.
    """
    save_text(markdown.render(report), path)


def save_junit(report: Report, path: Path) -> None:
    """Write the report's promises as JUnit XML, moved into place when complete.

    Raises:
        OutputError: If the file cannot be written.
    """
    save_text(junit.render(report), path)


def load_json(path: Path) -> Report:
    """Return the report that ``save_json`` wrote.

    Raises:
        SqueezeError: If the file cannot be read, or holds no report; the message names the place
            of the first mistake.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise SqueezeError(
            f"there is no report at {path}\n  Make one: onnxsqueeze compress MODEL --data DATA"
        ) from None
    except OSError as error:
        raise SqueezeError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise SqueezeError(
            f"{path} is not a valid report: {place}: {first['msg']}\n"
            f"  {error.error_count()} mistake(s) in all. Was it written by another version?"
        ) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"the report cannot be written to {path}: {error.strerror}\n"
        "  Name a file in a folder that exists and can be written to."
    )

"""Bad input of every kind: the documented exit code, one clear error, and nothing touched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli import bad_commands, bad_models, bad_samples
from tests.cli.case import Case
from tests.cli.place import linear, run

CASES = [*bad_models.CASES, *bad_samples.CASES, *bad_commands.CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = linear(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = case.arranged(place)
    before = place.digests()

    code = run(*arguments)

    out, err = capfd.readouterr()
    errors = [line for line in err.splitlines() if re.match("error: ", line, re.IGNORECASE)]
    assert (code, len(errors)) == (case.code, 1), err
    assert re.search(case.says, errors[0]), errors[0]
    assert "Traceback" not in err
    assert out == ""
    after = place.digests()
    assert {name: after.get(name) for name in before} == before
    added = {Path(name) for name in after.keys() - before.keys()}
    # The cleaned model may be kept; nothing that takes long was done before the mistake showed.
    assert all(re.search(r"/facts/clean-\w+", path.as_posix()) for path in added), added
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert not list(tmp_path.rglob("*.part"))


def test_every_kind_is_named_once() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)

"""What was found, held against what is expected; pure, for tests without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

NOT_MEASURED = "not measured here"
Outcome = Literal["as expected", "differs", "could not be checked"]


@dataclass(frozen=True)
class Verdict:
    """One check: its name, whether it is as expected, and what is to be said of it."""

    check: str
    outcome: Outcome
    words: str


def of_probe(
    check: str, found: Mapping[str, Any] | str, expected: Mapping[str, Any] | None
) -> Verdict:
    """Hold a probe against its entry of the expected results.

    Args:
        check: Provider and probe.
        found: ``runs_on``, ``kernels``, ``error`` and ``most``; or why it was not run.
        expected: ``runs_on``, and ``error`` as it was measured, or ``NOT_MEASURED``; None if there
            is no entry.
    """
    if isinstance(found, str):
        return Verdict(check, "could not be checked", found)
    faults: list[str] = []
    if not found["error"] <= found["most"]:  # NaN too
        faults.append(f"error {found['error']:.2g} is over the bound {found['most']:.2g}")
    words = f"on {found['runs_on']} as {', '.join(found['kernels'])}, error {found['error']:.2g}"
    if expected is None:
        return _judged(check, [*faults, "there is no expected result"], words)
    if expected["runs_on"] != found["runs_on"]:
        faults.append(f"expected on {expected['runs_on']}")
    if expected["error"] == NOT_MEASURED:
        words += f"; its kernel and error were {NOT_MEASURED}: keep them with --record"
    return _judged(check, faults, words)


def of_compress(
    check: str, found: Mapping[str, Any] | str, expected: Mapping[str, Any] | None
) -> Verdict:
    """Hold a compressed model against its entry of the expected results.

    Args:
        check: Provider and model.
        found: ``is_met``, ``drop_high``, ``max_drop``, ``share`` (bytes left), ``compute``, and
            ``forms``; or why it was not made.
        expected: ``compute``, ``forms_never``, and ``share_most``; None if there is no entry.
    """
    if isinstance(found, str):
        return Verdict(check, "could not be checked", found)
    words = (
        f"{found['share']:.1%} of the bytes, drop up to {found['drop_high']:.2%}, computes in "
        f"{found['compute']}, {', '.join(found['forms'])}"
    )
    faults = [] if found["is_met"] else ["nothing kept to the budget"]
    if found["drop_high"] > found["max_drop"]:
        faults.append(f"drop over the budget of {found['max_drop']:.2%}")
    if expected is None:
        return _judged(check, [*faults, "there is no expected result"], words)
    if found["compute"] not in expected["compute"]:
        faults.append(f"expected to compute in {' or '.join(expected['compute'])}")
    never = sorted(set(expected["forms_never"]) & set(found["forms"]))
    if never:
        faults.append(f"planned {', '.join(never)}, which this provider has no kernels for")
    if found["share"] > expected["share_most"]:
        faults.append(f"expected at most {expected['share_most']:.1%} of the bytes")
    return _judged(check, faults, words)


def _judged(check: str, faults: list[str], words: str) -> Verdict:
    if faults:
        return Verdict(check, "differs", f"{'; '.join(faults)} ({words})")
    return Verdict(check, "as expected", words)


def exit_code(verdicts: list[Verdict], refused: int) -> int:
    """Return 0 if all is as expected, 1 if something differs, else 7 if a provider is missing.

    Args:
        verdicts: Of all checks.
        refused: Providers that are not there.
    """
    if any(one.outcome == "differs" for one in verdicts):
        return 1
    return 7 if refused or any(one.outcome == "could not be checked" for one in verdicts) else 0

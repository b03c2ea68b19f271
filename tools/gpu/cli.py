"""The command: session, probes and shipped models on each provider, beside what is expected."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpu.probes import Probe, probes, shown
from gpu.verdicts import Verdict, exit_code, of_compress, of_probe
from onnxsqueeze import api
from onnxsqueeze.config import Budget, Limits, Provider, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import SqueezeError
from onnxsqueeze.measure.machine import machine
from onnxsqueeze.measure.placement import placement
from onnxsqueeze.plan.choose import counts
from onnxsqueeze.plan.providers import recipe

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = ROOT / "tools" / "gpu_expected.json"
MODELS = ("digits_mlp", "digits_cnn")
MAX_DROP = 0.02
Found = dict[str, dict[str, Any]]


@dataclass
class Checked:
    """What was found by provider and check, and the providers that are not there."""

    found: dict[str, Found] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def checked(names: list[str], with_models: bool) -> Checked:
    """Run everything that can be run here."""
    all_probes, result = probes(), Checked()
    for name in names:
        provider = Provider(name=name, options=recipe(name).options)
        try:
            shown(all_probes[0], provider, placement)
        except SqueezeError as error:
            result.refused[name] = str(error)
            continue
        found: Found = {}
        for one in all_probes:
            found[one.name] = _tried(lambda one=one, provider=provider: _probed(one, provider))
        for model in MODELS if with_models else ():
            found[f"compress {model}"] = _tried(
                lambda model=model, provider=provider: _compressed(model, provider)
            )
        result.found[name] = found
    return result


def _tried(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except SqueezeError as error:
        return str(error).splitlines()[0]


def _probed(one: Probe, provider: Provider) -> dict[str, Any]:
    # A form that a provider leaves to the CPU is something to be told, not an error.
    taken = provider.model_copy(update={"allow_fallback": "all"})
    found = asdict(shown(one, taken, placement))
    return {**found, "kernels": list(found["kernels"])}


def _compressed(name: str, provider: Provider) -> dict[str, Any]:
    folder = ROOT / "models" / name
    target = Target(
        objective="balanced",
        provider=provider.name,
        provider_options={provider.name: dict(provider.options)},
    )
    with tempfile.TemporaryDirectory() as place:
        made = api.compress(
            folder / "model.onnx",
            Path(place) / "small.onnx",
            DataSettings(str(folder / "calib.npz"), limit=96),
            budget=Budget(max_drop=MAX_DROP),
            target=target,
            limits=Limits(effort="quick", prune="off"),
        )
    validation = made.report.validation
    assert validation is not None  # compress always validates
    return {
        "is_met": made.is_met,
        "max_drop": MAX_DROP,
        "drop_high": validation.drop_high,
        "share": validation.result_bytes / validation.original_bytes,
        "compute": made.plan.compute,
        "forms": sorted({form.split()[0] for form in counts(made.plan.weights)}),
        "verdict": validation.latency[0].verdict,
        "speedup": validation.latency[0].speedup.value,
        "time_shares": validation.placement_result.time_shares,
    }


def verdicts(result: Checked, expected: dict[str, Any]) -> Iterator[Verdict]:
    for provider, found in result.found.items():
        entries = expected.get(provider, {})
        for name, one in found.items():
            judge = of_compress if name.startswith("compress") else of_probe
            yield judge(f"{provider}: {name}", one, entries.get(name))
    for provider in result.refused:
        for name in expected.get(provider, {}):
            words = f"{provider} is missing"
            yield Verdict(f"{provider}: {name}", "could not be checked", words)


def recorded(result: Checked, expected: dict[str, Any]) -> dict[str, Any]:
    """Return the expected results with what was measured of probes put in."""
    updated = json.loads(json.dumps(expected))
    for provider, found in result.found.items():
        for name, one in found.items():
            if not isinstance(one, str) and not name.startswith("compress"):
                entry = {"runs_on": one["runs_on"], "kernels": one["kernels"]}
                updated.setdefault(provider, {})[name] = {**entry, "error": one["error"]}
    return updated


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", action="append", help="default: cuda and tensorrt")
    parser.add_argument("--expected", type=Path, default=EXPECTED)
    parser.add_argument("--record", type=Path, help="write what was measured as expected results")
    parser.add_argument("--no-models", action="store_true", help="probes only")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    expected = json.loads(given.expected.read_text(encoding="utf-8"))
    here = machine()
    result = checked(given.provider or ["cuda", "tensorrt"], not given.no_models)
    judged = list(verdicts(result, expected["providers"]))
    code = exit_code(judged, len(result.refused))
    if given.record:
        kept = {**expected, "providers": recorded(result, expected["providers"])}
        given.record.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if given.json:
        told = {
            "machine": here.model_dump(),
            "refused": result.refused,
            "found": result.found,
            "verdicts": [asdict(one) for one in judged],
            "exit_code": code,
        }
        print(json.dumps(told, indent=1))
        return code
    print(f"onnxruntime {here.versions['onnxruntime']} offers {', '.join(here.providers)}")
    for name, why in result.refused.items():
        print(f"\n{name} is missing: {why}")
    print()
    for one in judged:
        print(f"{one.outcome:<21} {one.check}: {one.words}")
    counts_of = {kind: sum(one.outcome == kind for one in judged) for kind in _KINDS}
    print("\n" + ", ".join(f"{count} {kind}" for kind, count in counts_of.items()))
    return code


_KINDS = ("as expected", "differs", "could not be checked")

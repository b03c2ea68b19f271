"""Command lines, settings, plans, reports and outputs that cannot be."""

from __future__ import annotations

import json
import os

from onnxsqueeze.plan.types import Plan, WeightChoice
from tests.cli.case import COMPRESS, Case
from tests.cli.place import Place

APPLY = ("apply", "model.onnx", "plan.json", "-o", "out/small.onnx", "--data", "data.npz")


def _option(name: str, says: str, *options: str) -> Case:
    return Case(name, 2, says, arguments=(*COMPRESS, *options))


def _output(name: str, says: str, output: str) -> Case:
    return Case(name, 10, says, arguments=(*COMPRESS[:-1], output))


def _config(name: str, text: str, says: str) -> Case:
    return Case(
        name,
        2,
        says,
        lambda place: (place.folder / "settings.toml").write_text(text),
        (*COMPRESS, "--config", "settings.toml"),
    )


def _plan(place: Place, text: str) -> None:
    (place.folder / "plan.json").write_text(text)


def _other_plan(place: Place) -> None:
    choice = WeightChoice(form="float16", bits=16, reason="a test")
    Plan(model_sha256="0" * 64, weights={"w1": choice}).save(place.folder / "plan.json")


def _report(place: Place, text: str) -> None:
    (place.folder / "report.json").write_text(text)


def _locked(place: Place) -> None:
    (place.folder / "out").chmod(0o555)


def _taken_run(place: Place) -> None:
    (place.folder / "out" / "small.squeeze").write_text("a file")


UNKNOWN_FIELD = json.dumps({"schema_number": 1, "model_sha256": "0", "weights": {}, "colour": 1})
NEWER_PLAN = json.dumps({"schema_number": 99, "model_sha256": "0", "weights": {}})

CASES = [
    Case(
        "keep names nothing", 4, "'nosuch' matches no", arguments=(*COMPRESS, "--keep", "nosuch")
    ),
    _option("drop of 1", "could mean 1% or all", "--max-drop", "1"),
    _option("drop of 150%", "between 0% and 100%", "--max-drop", "150%"),
    _option("drop below zero", "between 0% and 100%", "--max-drop=-1%"),
    _option("drop is a word", "no number", "--max-drop", "little"),
    _option("9 bits", "--bits", "--bits", "9"),
    _option("bits are words", "not of the form", "--bits", "few"),
    Case("bits of no operator", 4, "'Nosuch', and", arguments=(*COMPRESS, "--bits", "Nosuch=8")),
    _option("keep is no pattern", r"--keep.*'w\('", "--keep", "w("),
    _option("prune below nothing", "prune-below", "--prune-below", "0"),
    _option("objective", "'tiny' is not one of", "--objective", "tiny"),
    _option("calibration", "'best' is not one of", "--calibration", "best"),
    _option("time limit", "no time", "--time-limit", "soon"),
    _option("no threads", "threads", "--threads", "0"),
    _option("a billion threads", "threads", "--threads", "1000000000"),
    _option("drop is no number at all", "'nan' is not between", "--max-drop", "nan"),
    _option("drop with a decimal comma", "'1,5%' is no number; write 1%", "--max-drop", "1,5%"),
    _option("frontier of words", "'a' is no number", "--frontier", "a,b"),
    _option("frontier of no points", "0 points", "--frontier", "0"),
    _option("pattern upside down", "4:2 makes no weight zero", "--sparsity", "4:2"),
    _option("time limit below zero", "'-5s' is no time", "--time-limit=-5s"),
    _option("provider option without a value", "is not KEY=VALUE", "--provider-options", "fast"),
    _option("image size is a word", "'big' is not of the form", "--image-size", "big"),
    Case(
        "image settings without images",
        5,
        r"data\.npz holds no images",
        arguments=(*COMPRESS, "--image-size", "224x224"),
    ),
    Case(
        "facts of a target that are no JSON",
        5,
        r"facts\.json holds no facts",
        lambda place: (place.folder / "facts.json").write_text("{"),
        (*COMPRESS, "--target-facts", "facts.json"),
    ),
    Case(
        "facts of a target missing",
        5,
        r"gone\.json cannot be read as facts",
        arguments=(*COMPRESS, "--target-facts", "gone.json"),
    ),
    Case(
        "samples for a plan",
        4,
        "is not a plan",
        arguments=("apply", "model.onnx", "data.npz", *APPLY[3:]),
    ),
    Case("model for a report", 1, "is not a valid report", arguments=("report", "model.onnx")),
    Case("shell unknown", 2, "'tcsh' is not one of", arguments=("completion", "tcsh")),
    Case(
        "test results into a missing folder",
        10,
        "the folder gone does not exist",
        arguments=(*COMPRESS, "--junit", "gone/squeeze.xml"),
    ),
    Case(
        "test results over the result",
        10,
        "never written to",
        arguments=(*COMPRESS, "--junit", "out/small.onnx"),
    ),
    _option("nothing held out", "held", "--held-out", "0%"),
    _option("option unknown", "--smaller", "--smaller"),
    Case("no output named", 2, "--output", arguments=COMPRESS[:4]),
    Case("command unknown", 2, "shrink", arguments=("shrink", "model.onnx")),
    Case("no model named", 2, "(?i)model", arguments=("inspect",)),
    _config("config with an unknown option", "max-drop = 0.1\nsmall = true\n", "sets small"),
    _config("config is not TOML", "max-drop: 1%\n", "is not TOML"),
    _config("config value", 'max-drop = "lots"\n', "'lots' is no number"),
    _config("config with a number for a pattern", "keep = 3\n", "keep"),
    _config("config with an unknown table", "[compres]\nmax-drop = 0.1\n", "sets compres"),
    Case(
        "config in another encoding",
        2,
        "is not TOML",
        lambda place: (place.folder / "settings.toml").write_bytes(b'max-drop = "\xe9"'),
        (*COMPRESS, "--config", "settings.toml"),
    ),
    Case("config missing", 2, "gone", arguments=(*COMPRESS, "--config", "gone.toml")),
    Case("cuda missing", 7, "CUDAExecutionProvider", arguments=(*COMPRESS, "--provider", "cuda")),
    Case("provider unknown", 7, "abacus", arguments=(*COMPRESS, "--provider", "abacus")),
    _output("output folder missing", "gone does not exist", "gone/small.onnx"),
    _output("output is the model", r"model\.onnx is the model itself", "model.onnx"),
    _output("output is a folder", "out is a folder", "out"),
    _output("output is the data", r"data\.npz", "data.npz"),
    Case(
        "plan over the model",
        10,
        "model itself",
        arguments=("plan", "model.onnx", "--data", "data.npz", "-o", "model.onnx"),
    ),
    Case(
        "page over the model",
        10,
        "model that is read",
        arguments=("inspect", "model.onnx", "--html", "model.onnx"),
    ),
    Case(
        "page of a comparison over the result",
        10,
        "model that is read",
        lambda place: (place.folder / "small.onnx").write_bytes(place.model.read_bytes()),
        ("validate", "model.onnx", "small.onnx", "--html", "small.onnx"),
    ),
    Case("run folder is a file", 10, "run folder", _taken_run),
    Case("plan of another model", 4, "made for model sha256:000000000000", _other_plan, APPLY),
    Case("plan missing", 4, r"no plan at plan\.json", arguments=APPLY),
    Case("plan is no JSON", 4, "not a", lambda place: _plan(place, "{"), APPLY),
    Case("plan is a list", 4, "not a valid plan", lambda place: _plan(place, "[]"), APPLY),
    Case("plan field", 4, "colour", lambda place: _plan(place, UNKNOWN_FIELD), APPLY),
    Case("plan of the future", 4, "schema_number", lambda place: _plan(place, NEWER_PLAN), APPLY),
    Case("plan is a folder", 4, "plan", lambda p: (p.folder / "plan.json").mkdir(), APPLY),
    Case("report missing", 1, "no report at", arguments=("report", "report.json")),
    Case(
        "report is no JSON",
        1,
        "not a valid report",
        lambda place: _report(place, "{"),
        ("report", "report.json"),
    ),
    Case(
        "report without its fields",
        1,
        "not a valid report: kind",
        lambda place: _report(place, '{"schema_number": 1}'),
        ("report", "."),
    ),
    Case(
        "page into a missing folder",
        10,
        "gone",
        arguments=("inspect", "model.onnx", "--html", "gone/page.html"),
    ),
]
if hasattr(os, "geteuid") and os.geteuid() != 0:  # root may write anywhere
    CASES.append(Case("output folder locked", 10, "cannot be written to", _locked))

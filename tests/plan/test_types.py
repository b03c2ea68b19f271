from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from onnxsqueeze.errors import PlanError
from onnxsqueeze.plan.types import ActivationChoice, Plan, WeightChoice

PLAN = Plan(
    model_sha256="ab" * 32,
    portable=True,
    weights={
        "w/é": WeightChoice(
            form="stored", bits=4, axis=1, block=32, rounding="compensated", prune_below=1e-3,
            masked=True, reason="because",
        ),
        "half": WeightChoice(form="float16", bits=16, reason=""),
        "as it is": WeightChoice(form="float", bits=32, reason="named by --keep"),
        "integer": WeightChoice(form="qdq", bits=8, axis=0, reason=""),
        "thin": WeightChoice(
            form="float16", bits=16, axis=0, rounding="compensated", sparsity=0.5, shrink="l1",
            masked=True, reason="",
        ),
        "patterned": WeightChoice(form="float", bits=32, axis=1, pattern="2:4", reason=""),
        "dynamic": WeightChoice(form="dynamic", bits=8, axis=1, reason=""),
    },
    activations={"x": ActivationChoice(low=-1.5, high=0.1 + 0.2, reason="seen")},
    notes=("one", "two"),
)  # fmt: skip


def test_a_plan_comes_back_from_its_file(tmp_path):
    PLAN.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == PLAN
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_saving_replaces_what_was_there(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("old")
    PLAN.save(path)
    assert json.loads(path.read_text("utf-8"))["schema_number"] == 1


def changed(**fields):
    return json.dumps({**PLAN.model_dump(mode="json"), **fields})


def with_weight(**fields):
    return changed(weights={"w": {"form": "stored", "bits": 8, "reason": "", **fields}})


MALFORMED = {
    "no json": ("{", "the file: Invalid JSON"),
    "another kind of json": ("[]", "the file: "),
    "empty": ("", "the file: Invalid JSON"),
    "a newer schema": (changed(schema_number=2), "schema_number: "),
    "a field too much": (changed(extra=1), "extra: "),
    "no model": (json.dumps({"weights": {}}), "model_sha256: Field required"),
    "an unknown form": (with_weight(form="int8"), "weights.w.form: "),
    "an unknown width": (with_weight(bits=9), "weights.w.bits: "),
    "a block of one": (with_weight(axis=0, block=1), "weights.w.block: "),
    "pruning below zero": (with_weight(prune_below=-1), "weights.w.prune_below: "),
    "two kinds of zeros": (
        with_weight(prune_below=0.1, sparsity=0.5),
        "weights.w: Value error, one of prune_below, sparsity and pattern",
    ),
    "a pattern of all": (
        with_weight(axis=0, pattern="4:4"), "weights.w: Value error, a pattern n:m has n < m"
    ),
    "a pattern without axis": (
        with_weight(pattern="2:4"), "weights.w: Value error, a pattern n:m has n < m"
    ),
    "all of it gone": (with_weight(sparsity=1.0), "weights.w.sparsity: "),
    "a sparse initializer of integers": (
        changed(
            zeros="initializer",
            weights={"w": {"form": "stored", "bits": 8, "masked": True, "reason": ""}},
        ),
        "the file: Value error, sparse initializers are float, and 'w' is not",
    ),
    "no reason": (changed(weights={"w": {"form": "float", "bits": 32}}), "weights.w.reason: "),
    "float16 in 8 bits": (
        with_weight(form="float16"), "weights.w: Value error, form float16 has 16 bits, not 8"
    ),
    "stored in 32 bits": (
        with_weight(bits=32), "weights.w: Value error, form stored has 2 or 3 or 4 or 5 or 6"
    ),
    "integers for a kernel in 2 bits": (
        with_weight(form="qdq", bits=2),
        "weights.w: Value error, form qdq has 3 or 4 or 5 or 6 or 7 or 8 bits, not 2",
    ),
    "a mask over 6 bits": (
        with_weight(bits=6, masked=True),
        "weights.w: Value error, a bit mask goes with 4 or 8 bits, not 6",
    ),
    "a block without axis": (
        with_weight(block=16), "weights.w: Value error, a block needs an axis"
    ),
    "columns of float16": (
        with_weight(form="float16", bits=16, axis=0, columns=True),
        "weights.w: Value error, scales of columns go with form stored and an axis",
    ),
    "columns without axis": (
        with_weight(axis=None, columns=True), "weights.w: Value error, scales of columns go with"
    ),
    "columns in a portable plan": (
        with_weight(axis=0, columns=True),
        "the file: Value error, a portable plan has no scales of columns, and 'w' has some",
    ),
    "a grid without end": (changed(activations={"x": {"low": 0, "reason": ""}}),
                           "activations.x.high: "),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_plan_is_refused_with_the_place_of_the_mistake(tmp_path, name):
    text, message = MALFORMED[name]
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(PlanError) as caught:
        Plan.load(path)
    first, second = str(caught.value).splitlines()[:2]
    assert first.startswith(f"{path} is not a valid plan: {message}")
    assert second.endswith("onnxsqueeze plan MODEL")


def test_bytes_that_are_no_text_are_no_plan(tmp_path):
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match=r"plan\.json is not a plan: 'utf-8' codec"):
        Plan.load(tmp_path / "plan.json")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(PlanError, match=r"there is no plan at .*none.json\n  Make one: onnx"):
        Plan.load(tmp_path / "none.json")


def test_a_plan_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        PLAN.portable = False

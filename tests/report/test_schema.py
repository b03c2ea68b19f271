"""The published schema is that of the types, and every report keeps to it."""

from __future__ import annotations

import json
import math

import jsonschema
import pytest

from onnxsqueeze.report.schema import published, schema
from tests.report import fixture

CHECKER = jsonschema.Draft202012Validator(schema())


def written(report):
    return json.loads(report.model_dump_json())


def test_published_schema_is_the_types_and_a_schema():
    jsonschema.Draft202012Validator.check_schema(schema())

    assert json.loads(published()) == schema(), (
        "the types of the report have changed: write the schema again, with "
        "onnxsqueeze report --schema > onnxsqueeze/report/schema.json"
    )


@pytest.mark.parametrize("make", [fixture.full, fixture.compress, fixture.inspect, fixture.bare])
def test_reports_keep_to_the_schema(make):
    CHECKER.validate(written(make()))


@pytest.mark.parametrize("damage", [math.inf, -math.inf, math.nan])
def test_what_json_has_no_number_for_is_allowed_as_text(damage):
    row = fixture.weights(1)[0].model_copy(update={"damage": damage})

    CHECKER.validate(written(fixture.compress(weights=(row,))))


@pytest.mark.parametrize(
    ("field", "value"),
    [("schema_number", 2), ("kind", "mine"), ("max_drop", "1%"), ("weights", [{}]), ("new", 1)],
)
def test_what_is_no_report_is_told(field, value):
    assert not CHECKER.is_valid({**written(fixture.compress()), field: value})

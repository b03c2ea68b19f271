"""The JSON schema of ``report.json``, made of the types that write it."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from onnxsqueeze.report.types import Report

FILE = "schema.json"
"""The published copy, beside this module."""
_NOT_FINITE = ["Infinity", "-Infinity", "NaN"]


class _AsWritten(GenerateJsonSchema):
    """Floats as ``save_json`` writes them: JSON has no infinity, so it is a string."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": _NOT_FINITE}]}


def schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12) that every report keeps to.

    Example:
        >>> schema()["$schema"], schema()["properties"]["schema_number"]["const"]
        ('https://json-schema.org/draft/2020-12/schema', 1)
    """
    found = Report.model_json_schema(schema_generator=_AsWritten, mode="serialization")
    return {"$schema": GenerateJsonSchema.schema_dialect, **found}


def schema_text() -> str:
    """Return the schema as the published file holds it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def published() -> str:
    """Return the published file's text."""
    return resources.files("onnxsqueeze.report").joinpath(FILE).read_text(encoding="utf-8")

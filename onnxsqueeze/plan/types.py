"""The plan: decisions as data, with a reason each. It names tensors and touches no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from onnxsqueeze.config import WIDTHS
from onnxsqueeze.errors import PlanError

MASKED_WIDTHS = (4, 8)
"""Widths of codes that can stand behind a bit mask."""
IntegerForm = Literal["qdq", "dynamic"]
INTEGER_FORMS: tuple[IntegerForm, ...] = ("qdq", "dynamic")
"""Forms of weights that integer kernels read."""
CodeType = Literal["uint8", "int8"]
Order = Literal["each", "sequential"]
"""Whether weights are fitted by themselves, or one after the other in the order of the graph."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightChoice(_Data):
    """How one initializer is kept.

    Attributes:
        form: ``float`` as it is; ``float16`` stored, made float when the model loads; ``stored``
            as integers, made float when the model loads; ``qdq`` as integers that an integer
            kernel reads, with activations on grids of the plan; ``dynamic`` the same, with
            activations on grids that each run takes from its own values.
        bits: Bits per stored value: 32 for ``float``, 16 for ``float16``, 8 for ``qdq`` and
            ``dynamic``, or 7 that are stored in 8.
        codes: Type of the codes that an integer kernel reads: ``uint8`` around 128, exact
            everywhere, or ``int8``, faster in some kernels.
        paired: Neighbouring codes sum to at most 128, which keeps ``int8`` exact in kernels that
            add two products in 16 bits.
        axis: Axis whose entries have their own scales; None for one scale.
        block: Values per scale along the axis that is summed over; None for one scale per
            ``axis`` entry.
        columns: Whether each column has a scale, too: only ``stored``, and not ``portable``.
        rounding: ``nearest``, or ``compensated``: each column's rounding error is made up for in
            the columns that follow, by the Gram matrix of the inputs.
        prune_below: Values with a smaller magnitude become zero first; None prunes nothing.
        masked: Zeros are stored behind a bit mask.
        reason: Why.
    """

    form: Literal["float", "float16", "stored", "qdq", "dynamic"]
    bits: Literal[2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32]
    axis: int | None = None
    block: Annotated[int, Field(ge=2)] | None = None
    columns: bool = False
    rounding: Literal["nearest", "compensated"] = "nearest"
    prune_below: Annotated[float, Field(gt=0.0)] | None = None
    masked: bool = False
    codes: CodeType = "uint8"
    paired: bool = False
    reason: str

    @model_validator(mode="after")
    def _can_be_carried_out(self) -> WeightChoice:
        only = {"float": (32,), "float16": (16,), "qdq": (7, 8), "dynamic": (7, 8)}
        widths = only.get(self.form, tuple(width for width in WIDTHS if width < 16))
        if self.bits not in widths:
            wanted = " or ".join(str(width) for width in widths)
            raise ValueError(f"form {self.form} has {wanted} bits, not {self.bits}")
        if self.masked and self.form == "stored" and self.bits not in MASKED_WIDTHS:
            raise ValueError(f"a bit mask goes with 4 or 8 bits, not {self.bits}")
        if self.columns and (self.form != "stored" or self.axis is None):
            raise ValueError("scales of columns go with form stored and an axis")
        if self.form not in INTEGER_FORMS and (self.codes != "uint8" or self.paired):
            raise ValueError("signed or paired codes go with forms qdq and dynamic")
        if self.paired and self.axis is None:
            raise ValueError("paired codes need an axis whose entries have their own scales")
        if self.block is not None and self.axis is None:
            raise ValueError("a block needs an axis whose entries have their own scales")
        return self


class ActivationChoice(_Data):
    """The 8-bit grid of one activation: ``low`` and ``high`` are its ends, zero is on it."""

    bits: Literal[8] = 8
    low: float
    high: float
    reason: str


class UnitsChoice(_Data):
    """Which channels, neurons or heads of one group stay: ``kept``, ascending, of ``count``."""

    kept: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    count: Annotated[int, Field(ge=1)]
    reason: str

    @model_validator(mode="after")
    def _names_units(self) -> UnitsChoice:
        if self.kept[-1] >= self.count or list(self.kept) != sorted(set(self.kept)):
            raise ValueError(f"kept units must ascend, each once, and be under {self.count}")
        return self


class Plan(_Data):
    """Decisions for one model.

    Attributes:
        schema_number: Version of this file format.
        model_sha256: Fingerprint of the model file that the plan was made for.
        portable: Spell stored weights as DequantizeLinear instead of as what the loader folds.
        order: ``each`` fits a weight's rounding to the inputs that it has in the original;
            ``sequential`` to those that it has with all before it compressed, and biases to both.
        units: Groups that are narrowed before anything else, by name; what reads them is fitted
            to what is left.
        refit: ``each`` fits those readers to the original's own inputs, ``sequential`` in the
            order of the graph to the inputs that they then have.
        weights: By initializer name, as the loaded (cleaned) model names it.
        activations: By tensor name.
        joined: Why each node without a weight runs on integers, too, by its output; what it reads
            and what it closes have grids.
        notes: What the plan as a whole was made for, and why it ended where it did.
    """

    schema_number: Literal[1] = 1
    model_sha256: str
    portable: bool = False
    order: Order = "each"
    units: dict[str, UnitsChoice] = {}
    refit: Order = "each"
    weights: dict[str, WeightChoice]
    activations: dict[str, ActivationChoice] = {}
    joined: dict[str, str] = {}
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _can_be_spelled(self) -> Plan:
        some = [name for name, choice in self.weights.items() if choice.columns]
        if self.portable and some:
            raise ValueError(f"a portable plan has no scales of columns, and {some[0]!r} has some")
        return self

    def save(self, path: Path) -> None:
        """Write the plan as JSON, moved into place when complete."""
        beside = path.with_name(path.name + ".part")
        beside.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan; raises PlanError with the place of the first mistake if it is malformed."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise PlanError(
                f"there is no plan at {path}\n  Make one: onnxsqueeze plan MODEL"
            ) from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise PlanError(f"{path} is not a plan: {error}") from error
        except OSError as error:
            raise PlanError(
                f"{path} cannot be read: {error.strerror}\n  Name a plan.json."
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise PlanError(
                f"{path} is not a valid plan: {place}: {first['msg']}\n"
                f"  {len(error.errors())} mistake(s) in all. Make a plan: onnxsqueeze plan MODEL"
            ) from error

"""The plan: decisions as data, with a reason each. It names tensors and touches no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from onnxsqueeze.config import PATTERN, WIDTHS, Importance, pattern_of
from onnxsqueeze.errors import PlanError
from onnxsqueeze.numerics.blocks import SIZES

MASKED_WIDTHS = (4, 8)
"""Widths of codes that can stand behind a bit mask."""
CODE_BITS = (3, 4, 5, 6, 7, 8)
"""Widths of codes that integer kernels of 8 bits read; two bits would need negative scales."""
IntegerForm = Literal["qdq", "dynamic", "blockwise"]
INTEGER_FORMS: tuple[IntegerForm, ...] = ("qdq", "dynamic", "blockwise")
"""Forms of weights that integer kernels read."""
CodeType = Literal["uint8", "int8"]
Grid = Literal["affine", "symmetric", "wide"]
Zeros = Literal["mask", "initializer"]
"""What tells where the zeros are that are not stored."""
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
            activations on grids that each run takes from its own values; ``blockwise`` as
            integers with a scale per block, which a kernel multiplies by as they are, or, in a
            table, makes floats of in the rows that are looked up.
        bits: Bits per stored value: 32 for ``float``, 16 for ``float16``, 3 to 8 for ``qdq`` and
            ``dynamic``, whose kernels read 8: narrower codes are widened when the model loads (in
            a ``portable`` plan they are stored in 8); 4 or 8 for ``blockwise``.
        codes: Type of the codes that an integer kernel reads: ``uint8`` around 128, exact
            everywhere, or ``int8``, faster in some kernels.
        offset: Whether each block has a zero point: only ``blockwise``.
        paired: Neighbouring codes sum to at most 128, which keeps ``int8`` exact in kernels that
            add two products in 16 bits.
        axis: Axis whose entries have their own scales; None for one scale.
        block: Values per scale along the axis that is summed over; None for one scale per
            ``axis`` entry.
        columns: Whether each column has a scale, too: only ``stored``, and not ``portable``.
        rounding: ``nearest``, or ``compensated``: each column's rounding error is made up for in
            the columns that follow, by the Gram matrix of the inputs; ``half_quadratic``, to the
            nearest on the grid with the fewest large errors, which needs no data.
        polish: How compensated codes are made better, beside all others: ``descent`` one by one,
            or ``learned`` by gradient descent on all of them, which needs the torch extra.
        prune_below: Values with a smaller magnitude become zero first; None prunes nothing.
        sparsity: Part of the values that becomes zero first, those of least worth; with rounding
            ``compensated`` the others make up for them, as for ``prune_below``, too.
        pattern: ``n:m`` instead: of each m neighbours along what is summed over n stay.
        shrink: As in ``Limits``.
        importance: What tells the worth of single weights; see ``numerics.importance``.
        masked: Zeros are not stored, but as ``Plan.zeros`` says.
        reason: Why.
    """

    form: Literal["float", "float16", "stored", "qdq", "dynamic", "blockwise"]
    bits: Literal[2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32]
    axis: int | None = None
    block: Annotated[int, Field(ge=2)] | None = None
    columns: bool = False
    rounding: Literal["nearest", "compensated", "half_quadratic"] = "nearest"
    polish: Literal["descent", "learned"] = "descent"
    prune_below: Annotated[float, Field(gt=0.0)] | None = None
    sparsity: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    pattern: Annotated[str, Field(pattern=PATTERN)] | None = None
    shrink: Literal["l1", "l2"] | None = None
    importance: Importance = "obs"
    masked: bool = False
    offset: bool = False
    codes: CodeType = "uint8"
    paired: bool = False
    reason: str

    @property
    def prunes(self) -> bool:
        """Whether it makes zeros."""
        ways = (self.prune_below, self.sparsity, self.pattern)
        return any(way is not None for way in ways)

    @property
    def is_fitted(self) -> bool:
        """Whether other values than the weight's own are stored, though in floats."""
        has_part = self.sparsity is not None or self.pattern is not None
        return has_part or (self.prune_below is not None and self.rounding == "compensated")

    @model_validator(mode="after")
    def _can_be_carried_out(self) -> WeightChoice:
        only = {"float": (32,), "float16": (16,), "qdq": CODE_BITS, "dynamic": CODE_BITS}
        only |= {"blockwise": (4, 8)}
        widths = only.get(self.form, tuple(width for width in WIDTHS if width < 16))
        if self.bits not in widths:
            wanted = " or ".join(map(str, widths))
            raise ValueError(f"form {self.form} has {wanted} bits, not {self.bits}")
        if self.masked and self.form == "stored" and self.bits not in MASKED_WIDTHS:
            raise ValueError(f"a bit mask goes with 4 or 8 bits, not {self.bits}")
        if sum(way is not None for way in (self.prune_below, self.sparsity, self.pattern)) > 1:
            raise ValueError("one of prune_below, sparsity and pattern makes zeros, not several")
        if self.pattern is not None and (self.axis is None or not _is_pattern(self.pattern)):
            raise ValueError("a pattern n:m has n < m, and goes with an axis")
        if self.columns and (self.form != "stored" or self.axis is None):
            raise ValueError("scales of columns go with form stored and an axis")
        if self.form not in INTEGER_FORMS and (self.codes != "uint8" or self.paired):
            raise ValueError("signed or paired codes go with forms qdq and dynamic")
        if self.paired and self.axis is None:
            raise ValueError("paired codes need an axis whose entries have their own scales")
        if self.form == "blockwise" and self.block not in SIZES:
            raise ValueError(f"form blockwise has blocks of {SIZES}, not {self.block}")
        if self.offset and self.form != "blockwise":
            raise ValueError("zero points of blocks go with form blockwise")
        if self.block is not None and self.axis is None:
            raise ValueError("a block needs an axis whose entries have their own scales")
        return self


def _is_pattern(text: str) -> bool:
    stay, of = pattern_of(text)
    return stay < of


class ActivationChoice(_Data):
    """The grid of one activation: ``low`` and ``high`` are its ends, zero is on it."""

    bits: Literal[8, 16] = 8
    low: float
    high: float
    reason: str


class ScalingChoice(_Data):
    """By which factors the entries of a tensor's axis are divided, where it is made.

    Attributes:
        steps: The factors' logarithms, in eighths of an octave; what reads the tensor is
            multiplied with the same factors.
        inserted: Whether a product of its own does it, before the linear nodes that read the
            tensor; otherwise constants that are there take the factors.
        reason: Why.
    """

    steps: tuple[int, ...]
    inserted: bool = False
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
        operators: ``runtime`` writes ``blockwise`` weights for ONNX Runtime's own operators,
            MatMulNBits and GatherBlockQuantized, ``standard`` for what it makes them of.
        zeros: What tells where ``masked`` zeros are: a bit ``mask`` that the loader folds, or the
            indices of a standard sparse ``initializer``, which only ``float`` weights can be.
        grid: Grids of ``activations``: ``affine`` codes from 0 to 255 around a zero point,
            ``symmetric`` from -127 to 127 around 0, beside which biases stay float, or ``wide``
            from 0 to 65535 around a zero point.
        compute: What nodes compute in that can in either; inputs and outputs stay as they are.
        order: ``each`` fits a weight's rounding to the inputs that it has in the original;
            ``sequential`` to those that it has with all before it compressed, and biases to both.
        units: Groups that are narrowed before anything else, by name; what reads them is fitted
            to what is left.
        refit: ``each`` fits those readers to the original's own inputs, ``sequential`` in the
            order of the graph to the inputs that they then have.
        scalings: Axes that are scaled before anything is rounded, by the first tensor that a
            linear node reads.
        weights: By initializer name, as the loaded (cleaned) model names it.
        activations: By tensor name.
        joined: Why each node without a weight runs on integers, too, by its output; what it reads
            and what it closes have grids.
        notes: What the plan as a whole was made for, and why it ended where it did.
    """

    schema_number: Literal[1] = 1
    model_sha256: str
    portable: bool = False
    operators: Literal["standard", "runtime"] = "standard"
    zeros: Zeros = "mask"
    grid: Grid = "affine"
    compute: Literal["float32", "float16"] = "float32"
    order: Order = "each"
    units: dict[str, UnitsChoice] = {}
    refit: Order = "each"
    scalings: dict[str, ScalingChoice] = {}
    weights: dict[str, WeightChoice]
    activations: dict[str, ActivationChoice] = {}
    joined: dict[str, str] = {}
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _can_be_spelled(self) -> Plan:
        some = [name for name, choice in self.weights.items() if choice.columns]
        if any((one.bits == 16) != (self.grid == "wide") for one in self.activations.values()):
            raise ValueError("activations have 16 bits on wide grids, and 8 on others")
        if self.portable and some:
            raise ValueError(f"a portable plan has no scales of columns, and {some[0]!r} has some")
        thin = [
            n for n, choice in self.weights.items() if choice.masked and choice.form != "float"
        ]
        if self.zeros == "initializer" and thin:
            raise ValueError(f"sparse initializers are float, and {thin[0]!r} is not")
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

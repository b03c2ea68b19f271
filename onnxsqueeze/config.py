"""What the user asks for: frozen values that check themselves, at the border of the package."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Width = Literal[2, 3, 4, 5, 6, 7, 8, 10, 12, 16]
WIDTHS: tuple[Width, ...] = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16)

Calibration = Literal["auto", "density", "mse", "minmax", "average", "percentile", "entropy"]

Effort = Literal["quick", "standard", "thorough"]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Settings(BaseModel):
    """Base of all settings: frozen, and a field that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(Settings):
    """How much may be lost, and by which metric.

    Attributes:
        max_drop: Largest allowed drop of the metric, as a fraction of the original's value (0.01
            = 1%).
        metric: ``auto`` (label-free), ``top1``, ``accuracy``, ``cosine``, ``mse`` or
            ``package.module:function``.
        seed: Seed of every random choice (sample split, bootstrap, row sampling).
    """

    max_drop: Fraction = 0.01
    metric: str = "auto"
    seed: Annotated[int, Field(ge=0)] = 0


class Target(Settings):
    """Where the result will run, and what it should be best at there.

    Attributes:
        objective: ``size`` (bytes), ``latency``, or ``balanced`` (bytes, then latency where it is
            free).
        provider: Execution provider, short name as in ``cpu`` or ``cuda``.
        threads: Threads that a session may use.
        portable: Write only standard QuantizeLinear/DequantizeLinear spellings, with unsigned
            weights: exact on every x64 and Arm kernel.
        kernels_file: Facts of the target's integer kernels, as ``onnxsqueeze doctor -o FILE``
            writes them there; None for this machine's own.
        calibration: How the ends of activations' grids are told; ``auto`` compares the methods for
            each, which takes longer.
    """

    objective: Literal["size", "latency", "balanced"] = "balanced"
    provider: str = "cpu"
    threads: Annotated[int, Field(ge=1)] = 1
    portable: bool = False
    kernels_file: str | None = None
    calibration: Calibration = "density"


class Limits(Settings):
    """What must not be done, or not beyond a limit.

    Attributes:
        bits: Bit widths that weights may be stored with; 16 is float16, the others are integers.
        operator_bits: Those of weights that an operator reads, by the operator's name; they stand
            in place of ``bits``.
        keep: Regular expressions; an initializer or node whose whole name matches stays as it is.
        prune_below: Weights with a magnitude under this become zero; None prunes nothing.
        time_limit_s: Stop measuring after this many seconds and end with the best so far.
        effort: ``quick`` rounds each weight by itself; ``standard`` also tries rounding in the
            order of the graph, with biases corrected; ``thorough`` tries more plans with it.
        prune: ``on`` removes channels, neurons and heads, ``off`` keeps them all; ``auto`` removes
            them for objective ``latency``.
        max_prune: Largest part of the multiply-adds that may go with them.
    """

    bits: tuple[Width, ...] = WIDTHS
    operator_bits: dict[str, tuple[Width, ...]] = {}
    keep: tuple[str, ...] = ()
    prune_below: Annotated[float, Field(gt=0.0)] | None = None
    time_limit_s: Annotated[float, Field(gt=0.0)] | None = None
    effort: Effort = "standard"
    prune: Literal["auto", "on", "off"] = "auto"
    max_prune: Fraction = 0.8

    @field_validator("keep")
    @classmethod
    def _patterns_compile(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in keep:
            _compiled(pattern)
        return keep

    def bits_of(self, operator: str) -> tuple[Width, ...]:
        """Return the bit widths that weights of an operator may be stored with."""
        return self.operator_bits.get(operator, self.bits)

    def prunes(self, objective: str) -> bool:
        """Return whether channels, neurons and heads may go, for this objective.

        Example:
            >>> Limits().prunes("latency"), Limits().prunes("size")
            (True, False)
        """
        return self.prune == "on" or (self.prune == "auto" and objective == "latency")

    def is_kept(self, *names: str) -> bool:
        """Return whether any of ``names`` matches a keep pattern in full."""
        return any(re.fullmatch(pattern, name) for pattern in self.keep for name in names)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error

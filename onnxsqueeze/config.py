"""What the user asks for: frozen values that check themselves, at the border of the package."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Width = Literal[2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32]
WIDTHS: tuple[Width, ...] = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16)

Calibration = Literal["auto", "density", "mse", "minmax", "average", "percentile", "entropy"]

Effort = Literal["quick", "standard", "thorough"]

Importance = Literal["obs", "taylor", "fisher", "activation", "l1", "l2", "information"]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

PATTERN = r"^[1-9]\d?:[1-9]\d?$"
"""How many of how many neighbouring weights stay, as in ``2:4``."""


class Settings(BaseModel):
    """Base of all settings: frozen, and a field that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(Settings):
    """How much may be lost, and by which metric.

    Attributes:
        max_drop: Largest allowed drop of the metric, as a fraction of the original's value (0.01
            = 1%).
        metric: ``auto`` (label-free), ``top1``, ``accuracy``, ``cosine``, ``mse``, ``perplexity``,
            ``divergence`` or ``package.module:function``.
        seed: Seed of every random choice (sample split, bootstrap, row sampling).
    """

    max_drop: Fraction = 0.01
    metric: str = "auto"
    seed: Annotated[int, Field(ge=0)] = 0


Fallback = Literal["none", "some", "all"]


class Provider(Settings):
    """An execution provider, with what is asked of it.

    Attributes:
        name: Short name as in ``cpu`` or ``cuda``, or ONNX Runtime's own.
        options: Provider options, passed on to ONNX Runtime as they are.
        allow_fallback: Which nodes the CPU may run instead: ``none``; ``some``, but not all; or
            ``all``, where a provider that runs nothing is no error.
    """

    name: Annotated[str, Field(min_length=1)] = "cpu"
    options: dict[str, str] = {}
    allow_fallback: Fallback = "some"


class Target(Settings):
    """Where the result will run, and what it should be best at there.

    Attributes:
        objective: ``size`` (bytes), ``latency``, or ``balanced`` (bytes, then latency where it is
            free).
        provider: Execution provider that is searched on, short name as in ``cpu`` or ``cuda``.
        also: Other providers that the result is validated on.
        provider_options: Options of providers, by the names they are asked for.
        allow_fallback: Which nodes the CPU may run instead of a provider; see ``Provider``.
        threads: Threads that a session may use.
        portable: Write only standard QuantizeLinear/DequantizeLinear spellings, with unsigned
            weights: exact on every x64 and Arm kernel.
        npu: Write 16-bit activations beside 8-bit weights, for a compiler that makes them integer
            arithmetic: such a file is run, and slow, on a CPU. It is ``portable``.
        sparse_initializer: Write zeros that are made as standard sparse initializers, not behind
            a bit mask: float only, and smaller only from two thirds zeros on.
        operators: ``runtime`` writes ONNX Runtime's own operators where a weight in blocks has
            one, ``standard`` what it makes them of when it loads the model.
        kernels_file: Facts of the target's integer kernels, as ``onnxsqueeze doctor -o FILE``
            writes them there; None for this machine's own.
        calibration: How the ends of activations' grids are told; ``auto`` compares the methods for
            each, which takes longer.
    """

    objective: Literal["size", "latency", "balanced"] = "balanced"
    provider: Annotated[str, Field(min_length=1)] = "cpu"
    also: tuple[str, ...] = ()
    provider_options: dict[str, dict[str, str]] = {}
    allow_fallback: Fallback = "some"
    threads: Annotated[int, Field(ge=1)] = 1
    portable: bool = False
    npu: bool = False
    operators: Literal["standard", "runtime"] = "standard"
    sparse_initializer: bool = False
    kernels_file: str | None = None
    calibration: Calibration = "density"

    @model_validator(mode="before")
    @classmethod
    def _npu_is_portable(cls, given: Any) -> Any:
        is_npu = isinstance(given, dict) and given.get("npu")
        return {**given, "portable": True} if is_npu else given

    @property
    def providers(self) -> tuple[Provider, ...]:
        """All providers that the result is validated on; the first is the one searched on.

        Example:
            >>> [one.name for one in Target(provider="cuda", also=("cpu", "cuda")).providers]
            ['cuda', 'cpu']
        """
        return tuple(
            Provider(
                name=name,
                options=self.provider_options.get(name, {}),
                allow_fallback=self.allow_fallback,
            )
            for name in dict.fromkeys((self.provider, *self.also))
        )


class Limits(Settings):
    """What must not be done, or not beyond a limit.

    Attributes:
        bits: Bit widths that weights may be stored with; 16 is float16, and 32 leaves a weight as
            it is; the others are integers.
        operator_bits: Those of weights that an operator reads, by the operator's name; they stand
            in place of ``bits``.
        keep: Regular expressions; an initializer or node whose whole name matches stays as it is.
        prune_below: Weights with a magnitude under this become zero; None prunes nothing.
        sparsity: Part of the single weights that becomes zero, over all weights of products with
            ``numerics.sparsity``'s repair; None asks for none.
        pattern: ``n:m`` instead: of each m neighbours n stay.
        shrink: What goes is told by a penalty's pull, ``l1`` or ``l2``; None: by its price.
        time_limit_s: Stop measuring after this many seconds and end with the best so far.
        effort: ``quick`` rounds each weight by itself; ``standard`` also tries rounding in the
            order of the graph, with biases corrected; ``thorough`` tries more plans with it.
        prune: ``on`` removes channels, neurons and heads, ``off`` keeps them all; ``auto`` removes
            them for objective ``latency``, and for ``balanced`` where that is quick, or foretold
            to save enough and not to take too long.
        max_prune: Largest part of the multiply-adds that may go with them.
        importance: What ranks channels, neurons and heads; see ``numerics.importance``. ``taylor``
            and ``fisher`` need torch.
    """

    bits: tuple[Width, ...] = WIDTHS
    operator_bits: dict[str, tuple[Width, ...]] = {}
    keep: tuple[str, ...] = ()
    prune_below: Annotated[float, Field(gt=0.0)] | None = None
    sparsity: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    pattern: Annotated[str, Field(pattern=PATTERN)] | None = None
    shrink: Literal["l1", "l2"] | None = None
    time_limit_s: Annotated[float, Field(gt=0.0)] | None = None
    effort: Effort = "standard"
    prune: Literal["auto", "on", "off"] = "auto"
    max_prune: Fraction = 0.8
    importance: Importance = "obs"

    @model_validator(mode="after")
    def _one_kind_of_zeros(self) -> Limits:
        if self.sparsity is not None and self.pattern is not None:
            raise ValueError("a sparsity is a fraction or a pattern, not both")
        return self

    @field_validator("pattern")
    @classmethod
    def _makes_zeros(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            stay, of = pattern_of(pattern)
            if stay >= of:
                raise ValueError(f"pattern {pattern} makes no weight zero")
        return pattern

    @property
    def is_sparse(self) -> bool:
        """Whether a part of the single weights is asked to become zero."""
        return self.sparsity is not None or self.pattern is not None

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
            >>> Limits().prunes("latency"), Limits().prunes("balanced"), Limits().prunes("size")
            (True, True, False)
        """
        return self.prune == "on" or (self.prune == "auto" and objective != "size")

    def prunes_however_long(self, objective: str) -> bool:
        """Return whether they go even where finding out which takes many minutes.

        Example:
            >>> limits = Limits()
            >>> limits.prunes_however_long("latency"), limits.prunes_however_long("balanced")
            (True, False)
        """
        return self.prune == "on" or (self.prune == "auto" and objective == "latency")

    def is_kept(self, *names: str) -> bool:
        """Return whether any of ``names`` matches a keep pattern in full."""
        return any(re.fullmatch(pattern, name) for pattern in self.keep for name in names)


def pattern_of(text: str) -> tuple[int, int]:
    """Return how many weights stay, and of how many.

    Example:
        >>> pattern_of("2:4")
        (2, 4)
    """
    stay, of = text.split(":")
    return int(stay), int(of)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error

"""All that was measured about one model, as planning reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.facts.kernels import Kernels
from onnxsqueeze.facts.op_latency import OpLatency
from onnxsqueeze.facts.ranges import TensorRange
from onnxsqueeze.facts.weights import WeightFacts


@dataclass(frozen=True)
class Facts:
    """The facts of one model and its calibration samples.

    Attributes:
        model_sha256: Fingerprint of the model file.
        data_sha256: Fingerprint of the calibration samples; None if they are synthetic.
        shapes: Measured shape of every tensor, by name.
        weights: Every weight.
        left_alone: Initializers that are no weights, with the reason.
        grams: Gram matrices by weight.
        ranges: What was seen of each activation that may become an integer; empty if not asked
            for.
        latencies: Single nodes in floats and in integers, by output; empty if not asked for.
        kernels: How exact this machine's integer kernels are; None if not asked for.
    """

    model_sha256: str
    data_sha256: str | None
    shapes: Mapping[str, tuple[int, ...]]
    weights: tuple[WeightFacts, ...]
    left_alone: Mapping[str, str]
    grams: Mapping[str, Gram]
    ranges: Mapping[str, TensorRange] = field(default_factory=dict)
    latencies: Mapping[str, OpLatency] = field(default_factory=dict)
    kernels: Kernels | None = None

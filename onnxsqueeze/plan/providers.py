"""What each execution provider can make of a compressed model: which forms pay there, and why.

These are facts about kernels, from the providers' own documentation; what they are worth on a
machine is measured there (``tools/gpu_check``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from onnxsqueeze.config import Target
from onnxsqueeze.errors import PlanError
from onnxsqueeze.plan.types import INTEGER_FORMS, Grid, IntegerForm

NBITS_BLOCKS = (16, 32, 64, 128, 256)
"""Values per scale that MatMulNBits takes.

Source:
    ONNX Runtime, docs/ContribOperators.md, com.microsoft.MatMulNBits: ``block_size`` is a power
    of two and at least 16.
"""


@dataclass(frozen=True)
class Recipe:
    """The forms that a provider has fast kernels for.

    Attributes:
        provider: Short name.
        integer_forms: Integer kernels that may be planned.
        grid: What activations' grids must be: ``affine`` codes around any zero point; or
            ``symmetric`` int8 with zero point 0; or ``none``, where they stay float.
        compute: What the rest of the graph computes in; edges of the model stay float32.
        accuracy_levels: Values of MatMulNBits' attribute that its kernel honours.
        options: Provider options that the recipe needs, unless the user gives others.
        reasons: Why something is not planned, by what it is.
        source: The documentation that says so.
    """

    provider: str
    integer_forms: tuple[IntegerForm, ...]
    grid: Grid | Literal["none"]
    compute: Literal["float32", "float16"]
    accuracy_levels: tuple[int, ...]
    options: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    source: str = ""


_EPS = "https://onnxruntime.ai/docs/execution-providers"
_QUANTIZATION = "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html"
_OF_CPU = Recipe(
    provider="cpu",
    integer_forms=INTEGER_FORMS,
    grid="affine",
    compute="float32",
    accuracy_levels=(0, 1, 4),
    reasons={"float16": "the CPU provider computes float16 in float32, between Casts"},
    source=f"{_QUANTIZATION} (Representation format; x86-64: U8U8 and U8S8)",
)
_OF_CUDA = Recipe(
    provider="cuda",
    integer_forms=("blockwise",),
    grid="none",
    compute="float16",
    accuracy_levels=(0, 1, 2, 3),
    reasons={
        "qdq": "the CUDA provider has no QLinearConv and no QLinearMatMul, so that integers "
        "between Q/DQ are made float again at every run",
        "dynamic": "the CUDA provider has MatMulInteger alone, without what quantizes "
        "activations on the fly, which then runs on the CPU",
        "accuracy level 4": "it asks for int8 activations, which the CUDA kernel of MatMulNBits "
        "does not use",
    },
    source="ONNX Runtime, docs/OperatorKernels.md (CUDAExecutionProvider), "
    f"docs/ContribOperators.md (MatMulNBits), {_EPS}/CUDA-ExecutionProvider.html",
)
_OF_TENSORRT = Recipe(
    provider="tensorrt",
    integer_forms=("qdq",),
    grid="symmetric",
    # The engine chooses float16 by itself where it is faster; Casts in the graph would part Q/DQ
    # from the layers that they belong to.
    compute="float32",
    accuracy_levels=(),
    options={"trt_fp16_enable": "1", "trt_int8_enable": "1"},
    reasons={
        "dynamic": "TensorRT has no grids that each run takes from its own values",
        "zero points": "TensorRT takes zero point 0 only",
        "bias": "TensorRT takes biases as floats, without Q/DQ",
        "blockwise": "MatMulNBits is an operator of ONNX Runtime that TensorRT does not know",
    },
    source=f"{_EPS}/TensorRT-ExecutionProvider.html (trt_fp16_enable, trt_int8_enable); NVIDIA "
    "TensorRT Developer Guide, Working with Quantized Types: Explicit Quantization, Q/DQ Layer-"
    f"Placement Recommendations; {_QUANTIZATION} (Quantization on GPU: symmetric, int8)",
)
_OF_OPENVINO = Recipe(
    provider="openvino",
    integer_forms=("qdq",),
    grid="affine",
    compute="float32",
    accuracy_levels=(),
    reasons={"dynamic": "OpenVINO does not know ONNX Runtime's integer products of each run"},
    source=f"{_EPS}/OpenVINO-ExecutionProvider.html (Support Coverage: QuantizeLinear, "
    "DequantizeLinear); OpenVINO, Quantized models and low precision transformations",
)
_RECIPES = {one.provider: one for one in (_OF_CPU, _OF_CUDA, _OF_TENSORRT, _OF_OPENVINO)}
_FULL = {
    "cpuexecutionprovider": "cpu",
    "cudaexecutionprovider": "cuda",
    "tensorrtexecutionprovider": "tensorrt",
    "openvinoexecutionprovider": "openvino",
}


def recipe(provider: str) -> Recipe:
    """Return what may be planned for a provider, given by its short or full name.

    For one that nothing is known of, weights are only stored: they are made float when the model
    loads, which any provider can run.

    Example:
        >>> recipe("cuda").integer_forms, recipe("CUDAExecutionProvider").compute
        (('blockwise',), 'float16')
        >>> recipe("QNNExecutionProvider").grid
        'none'
    """
    short = _FULL.get(provider.lower(), provider.lower())
    return _RECIPES.get(short) or Recipe(
        provider=provider,
        integer_forms=(),
        grid="none",
        compute="float32",
        accuracy_levels=(),
        reasons={"qdq": f"nothing is known of the integer kernels of {provider}"},
    )


def grid_of(target: Target) -> Grid | Literal["none"]:
    """Return what grids activations get, by the provider, or by what is compiled for elsewhere.

    Example:
        >>> grid_of(Target()), grid_of(Target(provider="cuda")), grid_of(Target(npu=True))
        ('affine', 'none', 'wide')

    Source:
        ONNX Runtime, QNN Execution Provider: 16-bit unsigned activations beside 8-bit weights.
    """
    return "wide" if target.npu else recipe(target.provider).grid


def plans_integers(target: Target) -> bool:
    """Return whether activations may become integers on a target.

    Example:
        >>> [plans_integers(Target(provider=name)) for name in ("cpu", "openvino", "cuda")]
        [True, True, False]
    """
    return grid_of(target) != "none"


def measures_integers(target: Target) -> bool:
    """Return whether single integer kernels are timed for a target, to keep those that pay.

    TensorRT chooses kernels as it builds its engine, which a single node does not show; an NPU's
    are not here.

    Example:
        >>> [measures_integers(Target(provider=name)) for name in ("cpu", "openvino", "tensorrt")]
        [True, True, False]
    """
    return grid_of(target) == "affine"


def why_no_integers(provider: str) -> str:
    """Return why no activation becomes integers on a provider; empty where they may.

    Example:
        >>> why_no_integers("cpu"), why_no_integers("tensorrt")
        ('', '')
    """
    found = recipe(provider)
    return found.reasons["qdq"] if found.grid == "none" else ""


def with_options(target: Target) -> Target:
    """Return the target with the provider options that the recipes need; given ones stay.

    Example:
        >>> with_options(Target(provider="tensorrt")).provider_options["tensorrt"]
        {'trt_fp16_enable': '1', 'trt_int8_enable': '1'}
        >>> with_options(Target()).provider_options
        {}
    """
    options = dict(target.provider_options)
    for name in (target.provider, *target.also):
        needed = {**recipe(name).options, **options.get(name, {})}
        if needed:
            options[name] = needed
    return target.model_copy(update={"provider_options": options})


def options_note(provider: str) -> str:
    """Return which options a session on a provider must be made with; empty where none.

    Example:
        >>> options_note("cpu")
        ''
    """
    options = recipe(provider).options
    told = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"made for sessions with the options of {provider}: {told}" if options else ""


def accuracy_level(provider: str, wanted: int) -> int:
    """Return the level that MatMulNBits should have on a provider.

    Raises:
        PlanError: If the provider's kernel does not honour the level, or has no such kernel.

    Example:
        >>> accuracy_level("cpu", 4)
        4
    """
    found = recipe(provider)
    if wanted not in found.accuracy_levels:
        known = ", ".join(map(str, found.accuracy_levels)) or "none: there is no such kernel"
        why = found.reasons.get(f"accuracy level {wanted}", "")
        raise PlanError(
            f"accuracy level {wanted} of MatMulNBits is not one that {provider} honours\n"
            f"  It honours {known}.{f' {why}.' if why else ''}"
        )
    return wanted

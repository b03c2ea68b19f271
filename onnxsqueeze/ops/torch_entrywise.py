"""Torch kernels of operators that work entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from onnxsqueeze.ops.row import Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, torch, torch_type


def _unary(function: Callable[[Tensor], Tensor]) -> Kernel:
    return lambda call: (function(call[0]),)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    return lambda call: (function(call[0], call[1]),)


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    return lambda call: (reduce(function, call.present),)


def _is_integer(x: Tensor) -> bool:
    return not x.dtype.is_floating_point and x.dtype != torch.bool


def _div(call: Call) -> Sequence[Tensor]:
    """Integers are divided towards zero."""
    mode = "trunc" if _is_integer(call[0]) else None
    return (torch.div(call[0], call[1], rounding_mode=mode),)


def _pow(call: Call) -> Sequence[Tensor]:
    return (
        (torch.pow(call[0], call[1].to(torch.float64)).to(call[0].dtype),)
        if (_is_integer(call[0]) and call[1].dtype.is_floating_point)
        else (torch.pow(call[0], call[1].to(call[0].dtype)),)
    )


def _mod(call: Call) -> Sequence[Tensor]:
    function = torch.fmod if call.attribute("fmod") else torch.remainder
    return (function(call[0], call[1]),)


def _shift(call: Call) -> Sequence[Tensor]:
    """Torch shifts no unsigned integers of over 8 bits, and signed ones fill with the sign."""
    x, by = call[0].to(torch.int64), call[1].to(torch.int64)
    left = call.attribute("direction") == "LEFT"
    moved = torch.bitwise_left_shift(x, by) if left else torch.bitwise_right_shift(x, by)
    return (moved.to(call[0].dtype),)


def _is_infinite(call: Call) -> Sequence[Tensor]:
    positive, negative = call.attribute("detect_positive"), call.attribute("detect_negative")
    x = call[0]
    found = torch.zeros_like(x, dtype=torch.bool)
    found = found | torch.isposinf(x) if positive else found
    return (found | torch.isneginf(x) if negative else found,)


def _clip(call: Call) -> Sequence[Tensor]:
    """Limits are attributes before opset 11, inputs since."""
    x = call[0]
    low, high = (
        call.node.attributes[name].value if name in call.node.attributes else call.optional(place)
        for name, place in (("min", 1), ("max", 2))
    )
    if low is not None:
        x = torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
    if high is not None:
        x = torch.minimum(x, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    return (x,)


def _mean(call: Call) -> Sequence[Tensor]:
    return (reduce(torch.add, call.present) / len(call.present),)


def _leaky(call: Call) -> Sequence[Tensor]:
    return (torch.nn.functional.leaky_relu(call[0], call.attribute("alpha")),)


def _prelu(call: Call) -> Sequence[Tensor]:
    x, slope = call[0], call[1]
    return (torch.where(x < 0, slope * x, x),)


def _elu(call: Call) -> Sequence[Tensor]:
    return (torch.nn.functional.elu(call[0], call.attribute("alpha")),)


def _celu(call: Call) -> Sequence[Tensor]:
    return (torch.nn.functional.celu(call[0], call.attribute("alpha")),)


def _selu(call: Call) -> Sequence[Tensor]:
    x, alpha, gamma = call[0], call.attribute("alpha"), call.attribute("gamma")
    return (gamma * torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0))),)


def _hard_sigmoid(call: Call) -> Sequence[Tensor]:
    return (torch.clamp(call.attribute("alpha") * call[0] + call.attribute("beta"), 0, 1),)


def _hard_swish(x: Tensor) -> Tensor:
    return x * torch.clamp(x / 6 + 0.5, 0, 1)


def _gelu(call: Call) -> Sequence[Tensor]:
    approximate = call.attribute("approximate") or "none"
    return (torch.nn.functional.gelu(call[0], approximate=approximate),)


def _swish(call: Call) -> Sequence[Tensor]:
    return (call[0] * torch.sigmoid(call.attribute("alpha") * call[0]),)


def _thresholded(call: Call) -> Sequence[Tensor]:
    x = call[0]
    return (torch.where(x > call.attribute("alpha"), x, torch.zeros_like(x)),)


def _shrink(call: Call) -> Sequence[Tensor]:
    x, bias, limit = call[0], call.attribute("bias"), call.attribute("lambd")
    above = torch.where(x > limit, x - bias, torch.zeros_like(x))
    return (torch.where(x < -limit, x + bias, above),)


def _cast(call: Call) -> Sequence[Tensor]:
    return (call[0].to(torch_type(call.attribute("to"))),)


def _cast_like(call: Call) -> Sequence[Tensor]:
    return (call[0].to(call[1].dtype),)


def _dropout(call: Call) -> Sequence[Tensor]:
    """Nothing is dropped outside of training."""
    return (call[0], torch.ones_like(call[0], dtype=torch.bool))


def _softplus(x: Tensor) -> Tensor:
    """Torch's own is linear from 20 on."""
    return torch.logaddexp(x, torch.zeros_like(x))


def _both(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: getattr(torch, name)(a, b)


def _one(name: str) -> Callable[[Tensor], Tensor]:
    return lambda x: getattr(torch, name)(x)


_SAME_NAME = (
    *("Abs", "Ceil", "Exp", "Floor", "Log", "Neg", "Reciprocal", "Sqrt", "Tanh", "Sigmoid"),
    *("Acos", "Asin", "Atan", "Cos", "Sin", "Tan", "Acosh", "Asinh", "Atanh", "Cosh", "Sinh"),
    *("Erf", "IsNaN", "Sign", "Round", "Relu"),
)
_TWO = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Equal": "eq",
    "Greater": "gt",
    "Less": "lt",
    "GreaterOrEqual": "ge",
    "LessOrEqual": "le",
    "And": "logical_and",
    "Or": "logical_or",
    "Xor": "logical_xor",
    "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
}
_MANY = {"Sum": "add", "Max": "maximum", "Min": "minimum"}

KERNELS: Mapping[str, Kernel] = {
    **{name: _unary(_one(name.lower())) for name in _SAME_NAME},
    **{name: _binary(_both(function)) for name, function in _TWO.items()},
    **{name: _folded(_both(function)) for name, function in _MANY.items()},
    "Div": _div,
    "Pow": _pow,
    "Mod": _mod,
    "BitShift": _shift,
    "IsInf": _is_infinite,
    "Clip": _clip,
    "Mean": _mean,
    "LeakyRelu": _leaky,
    "PRelu": _prelu,
    "Elu": _elu,
    "Celu": _celu,
    "Selu": _selu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(_hard_swish),
    "Mish": _unary(lambda x: x * torch.tanh(_softplus(x))),
    "Gelu": _gelu,
    "Swish": _swish,
    "ThresholdedRelu": _thresholded,
    "Shrink": _shrink,
    "Softplus": _unary(_softplus),
    "Softsign": _unary(lambda x: x / (1 + torch.abs(x))),
    "Not": _unary(_one("logical_not")),
    "BitwiseNot": _unary(_one("bitwise_not")),
    "Where": lambda call: (torch.where(call[0], call[1], call[2]),),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Dropout": _dropout,
    "Identity": lambda call: (call[0],),
}

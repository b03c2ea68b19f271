"""Blocks of element-wise operators, for images and sequences alike.

Smooth operators work on activations. Those that jump work on weights, which are the same numbers
before and after a cut: at a jump, a sum in another order would change more than its last bit.
"""

from __future__ import annotations

from tests.passes.cut_text import Text

SMOOTH = (
    *(("Relu", 0), ("LeakyRelu", 0), ("Sigmoid", 0), ("Abs", 0), ("Neg", 0), ("Elu", 0)),
    *(("Exp", 0), ("HardSigmoid", 0), ("Selu", 0), ("Tanh", 0), ("Acos", 0), ("Asin", 0)),
    *(("Atan", 0), ("Cos", 0), ("Sin", 0), ("Tan", 0), ("Identity", 0), ("Softplus", 0)),
    *(("Softsign", 0), ("Asinh", 0), ("Atanh", 0), ("Cosh", 0), ("Sinh", 0), ("Erf", 0)),
    *(("Celu", 0), ("HardSwish", 0), ("Gelu", 0), ("Swish", 0), ("Mish", 0), ("Dropout", 0)),
    *(("Log", 1), ("Reciprocal", 1), ("Sqrt", 1), ("Acosh", 2)),
)
"""Operators of one input, and around what number their argument lies."""


def _smooth(g: Text, x: str, c: int) -> tuple[str, int]:
    operator, centre = g.picked(SMOOTH)
    return g.line(f"{operator} ({g.around(x, centre)})"), c


def _clipped(g: Text, x: str, c: int) -> tuple[str, int]:
    low, high = (g.scalar("float", limit) for limit in (-0.5, 1.0))
    return g.line(f"Clip ({x}, {low}, {high})"), c


def _with_vector(g: Text, x: str, c: int) -> tuple[str, int]:
    operator = g.picked(("Add", "Sub", "Mul", "PRelu", "Sum", "Mean", "Max", "Min"))
    return g.line(f"{operator} ({x}, {g.vector(c)})"), c


def _divided(g: Text, x: str, c: int) -> tuple[str, int]:
    operator = g.picked(("Div", "Pow"))
    return g.line(f"{operator} ({g.around(x, 1)}, {g.around(g.vector(c), 1)})"), c


def _stepped(g: Text, x: str, c: int) -> tuple[str, int]:
    operator = g.picked(("Ceil", "Floor", "Round", "Sign", "ThresholdedRelu", "Shrink"))
    return g.line(f"Add ({x}, {g.line(f'{operator} ({g.vector(c)})')})"), c


def _rest(g: Text, x: str, c: int) -> tuple[str, int]:
    rest = g.line(f"Mod <fmod = 1> ({g.vector(c)}, {g.around(g.vector(c), 1)})")
    return g.line(f"Add ({x}, {rest})"), c


def _turned(g: Text, x: str, c: int, where: str) -> tuple[str, int]:
    return g.line(f"Where ({where}, {x}, {g.line(f'Neg ({x})')})"), c


def _compared(g: Text, x: str, c: int) -> tuple[str, int]:
    operator = g.picked(("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"))
    a, b = (g.line(f"Round ({g.vector(c)})") for _ in range(2))
    return _turned(g, x, c, g.line(f"{operator} ({a}, {b})"))


def _logical(g: Text, x: str, c: int) -> tuple[str, int]:
    operator, zero = g.picked(("And", "Or", "Xor")), g.floats(0)
    a, b = (g.line(f"Greater ({g.vector(c)}, {zero})") for _ in range(2))
    return _turned(g, x, c, g.line(f"{operator} ({a}, {b})"))


def _not_finite(g: Text, x: str, c: int) -> tuple[str, int]:
    operator = g.picked(("IsInf", "IsNaN"))
    root = g.line(f"Sqrt ({g.line(f'Reciprocal ({g.vector(c)})')})")
    return _turned(g, x, c, g.line(f"Not ({g.line(f'{operator} ({root})')})"))


def _bits(g: Text, x: str, c: int) -> tuple[str, int]:
    """Up to 255 · 2⁻⁸ are added, made of two weights as bytes."""
    operator = g.picked(("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift", "BitwiseNot"))
    steps = [g.line(f"Mul ({g.around(g.vector(c), 1)}, {g.floats(4)})") for _ in range(2)]
    a, b = (g.line(f"Cast <to = 2> ({one})") for one in steps)
    setting = '<direction = "LEFT">' if operator == "BitShift" else ""
    made = g.line(f"{operator} {setting} ({a if operator == 'BitwiseNot' else f'{a}, {b}'})")
    part = g.line(f"Mul ({g.line(f'Cast <to = 1> ({made})')}, {g.floats(2**-8)})")
    return g.line(f"Add ({x}, {part})"), c


def _as_integers(g: Text, x: str, c: int) -> tuple[str, int]:
    whole = g.line(f"CastLike ({g.vector(c)}, {g.ints(0)})")
    return g.line(f"Add ({x}, {g.line(f'Cast <to = 1> ({whole})')})"), c


ENTRYWISE = (
    _smooth, _smooth, _clipped, _with_vector, _divided, _stepped, _rest, _compared, _logical,
    _not_finite, _bits, _as_integers,
)  # fmt: skip

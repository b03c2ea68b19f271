"""An example node: an operator with its inputs and attributes, small enough to be run often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from tests.ops.running import OPSET, Array, make


@dataclass(frozen=True, eq=False)
class Example:
    """A node by its operator, inputs and attributes.

    Attributes:
        ports: Arrays by input port; a tuple is the shape of random values in [0.1, 1).
        constant: Ports that are initializers.
        cuts: Ties by port and axis that must exist, as in ``"X1 Y1"``; None where all is frozen.
    """

    op_type: str
    ports: dict[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    constant: tuple[str, ...] = ()
    results: int = 1
    version: int = OPSET
    cuts: str | None = None

    def __str__(self) -> str:
        shapes = ",".join("x".join(map(str, a.shape)) for a in self.arrays().values())
        settings = ",".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op_type}-{self.version}({shapes}){settings}"

    def arrays(self) -> dict[str, Array]:
        rng = np.random.default_rng(0)
        return {
            name: rng.uniform(0.1, 1, port).astype(np.float32)
            if isinstance(port, tuple)
            else np.asarray(port)
            for name, port in self.ports.items()
        }

    def model(self, arrays: dict[str, Array] | None = None, **attributes: Any) -> ir.Model:
        return make(
            self.op_type,
            self.arrays() if arrays is None else arrays,
            results=self.results,
            constant=self.constant,
            version=self.version,
            **(self.attributes | attributes),
        )


def op(op_type: str, cuts: str | None = None, /, **settings: Any) -> Example:
    """Make an Example; lower-case ``const_NAME`` ports are int64 initializers."""
    own = {name: settings.pop(name) for name in ("results", "version") if name in settings}
    attributes = settings.pop("with_", {})
    constant = settings.pop("constant", "").split()
    ports: dict[str, Any] = settings.pop("ports", {})
    for name, value in settings.items():
        port = name.removeprefix("const_")
        if name.startswith("const_"):
            constant.append(port)
            value = value if isinstance(value, np.ndarray | tuple) else np.asarray(value, np.int64)
        ports[port] = value
    return Example(op_type, ports, attributes, tuple(constant), cuts=cuts, **own)

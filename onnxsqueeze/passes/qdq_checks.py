"""Whether a plan's integer kernels fit the model: every refusal comes before the first change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import onnx_ir as ir

from onnxsqueeze.analysis.dynamic import without_ranges
from onnxsqueeze.analysis.grids import Candidate, integer_candidates
from onnxsqueeze.errors import PlanError
from onnxsqueeze.plan.types import ActivationChoice, IntegerForm, Plan, WeightChoice

_CLAMP_SLACK = 1e-6  # ranges are read from JSON and may have been rounded to float32


def planned_candidates(
    model: ir.Model, plan: Plan, rounded: Collection[str], form: IntegerForm = "qdq"
) -> tuple[Candidate, ...]:
    """Return the nodes that the plan makes integer kernels of in one form and that are not yet.

    Args:
        model: The model as it is.
        plan: What to do.
        rounded: Names of the weights whose codes are given.
        form: Which of the plan's weights; only ``qdq`` needs ranges of activations.

    Raises:
        PlanError: If a weight, node or tensor is missing, cannot be an integer kernel, or is
            planned in a way that this form has not.
    """
    wanted = {name: choice for name, choice in plan.weights.items() if choice.form == form}
    there = model.graph.initializers
    absent = sorted(n for n in wanted if n not in there and f"{n}.int" not in there)
    if absent:
        raise PlanError(
            f"the plan makes integers of {len(absent)} weight(s) that the model lacks: "
            f"{absent[:5]}\n"
            f"  The plan was made for model sha256:{plan.model_sha256[:12]}….\n"
            "  Make a plan for this one: onnxsqueeze plan MODEL"
        )
    found = [one for one in integer_candidates(model) if one.weight in wanted]
    if form == "dynamic":
        found = without_ranges(model, found)
    for name in wanted.keys() & there.keys():
        _check_weight(name, wanted[name], [one for one in found if one.weight == name], rounded)
    for one in found:
        if form == "qdq":
            _check_activations(one, plan.activations)
        _check_finite(model.graph, one)
    return tuple(found)


def _check_weight(
    name: str, choice: WeightChoice, readers: list[Candidate], rounded: Collection[str]
) -> None:
    if not readers:
        raise PlanError(
            f"the plan makes integers of weight {name!r}, and no node of the main graph "
            "multiplies by it\n"
            "  Choose form 'stored' or 'float' for it in the plan."
        )
    one = next((one for one in readers if one.reason), readers[0])
    if one.reason:
        raise PlanError(
            f"the plan makes integers of weight {name!r}, and node {one.node!r} ({one.op_type}) "
            f"cannot be an integer kernel: {one.reason}\n"
            "  Choose form 'stored' or 'float' for it in the plan."
        )
    if choice.bits != 8 or choice.axis != one.axis or choice.block is not None or choice.masked:
        raise PlanError(
            f"the plan keeps weight {name!r} in {choice.bits} bits, axis {choice.axis}, block "
            f"{choice.block}, masked {choice.masked}; form '{choice.form}' needs 8 bits, "
            f"axis {one.axis}, no block, no mask\n"
            "  Change these fields of the plan, or choose form 'stored'."
        )
    if choice.rounding == "compensated" and name not in rounded:
        raise PlanError(
            f"the plan rounds weight {name!r} with compensation, and no codes are given for it\n"
            "  Compensation needs the inputs' Gram matrix: apply the plan with data, or choose "
            "rounding 'nearest'."
        )


def _check_activations(one: Candidate, activations: Mapping[str, ActivationChoice]) -> None:
    for name in grid_tensors([one]):
        choice = activations.get(name)
        if choice is None:
            raise PlanError(
                f"node {one.node!r} ({one.op_type}) is planned in integers, and tensor {name!r} "
                "has no range\n  Add it to the plan's activations, or choose another form for "
                f"weight {one.weight!r}."
            )
        if not (
            np.isfinite(choice.low) and np.isfinite(choice.high) and choice.low <= choice.high
        ):
            raise PlanError(
                f"the plan's range of tensor {name!r} is [{choice.low}, {choice.high}], and it "
                "must be finite and in order\n  Correct it in the plan."
            )
    if one.closes is not None:
        choice = activations[one.closes]
        if choice.low < one.low or choice.high > one.high * (1 + _CLAMP_SLACK):
            raise PlanError(
                f"the plan's range of tensor {one.closes!r} is [{choice.low}, {choice.high}], and "
                f"what follows node {one.node!r} limits it to [{one.low}, {one.high}]\n"
                "  A wider range keeps the node in floats. Correct it in the plan."
            )


def _check_finite(graph: ir.Graph, one: Candidate) -> None:
    for name in (one.weight, one.bias):
        tensor = None if name is None else graph.initializers[name].const_value
        if tensor is not None and not np.isfinite(tensor.numpy()).all():
            raise PlanError(
                f"the plan makes integers of {name!r}, which holds NaN or infinity\n"
                f"  Choose form 'float' for weight {one.weight!r}, or repair the model."
            )


def grid_tensors(planned: Iterable[Candidate]) -> tuple[str, ...]:
    """Return the tensors that need a grid, each once, in the order of the nodes."""
    names = [name for one in planned for name in (one.x, one.closes) if name is not None]
    return tuple(dict.fromkeys(names))

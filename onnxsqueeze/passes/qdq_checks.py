"""Whether a plan's integer kernels fit the model: every refusal comes before the first change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import onnx_ir as ir

from onnxsqueeze.analysis.dynamic import without_ranges
from onnxsqueeze.analysis.grids import Candidate, integer_candidates
from onnxsqueeze.analysis.regions import Joint, joints
from onnxsqueeze.errors import PlanError
from onnxsqueeze.ops import integer_role
from onnxsqueeze.plan.types import (
    CODE_BITS,
    ActivationChoice,
    IntegerForm,
    Plan,
    WeightChoice,
)

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
    absent = sorted(n for n in wanted if n not in there and f"{n}.scale" not in there)
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
    has_layout = choice.axis == one.axis and choice.block is None and not choice.masked
    if not has_layout or choice.bits not in CODE_BITS:
        raise PlanError(
            f"the plan keeps weight {name!r} in {choice.bits} bits, axis {choice.axis}, block "
            f"{choice.block}, masked {choice.masked}; form '{choice.form}' needs "
            f"{CODE_BITS[0]} to {CODE_BITS[-1]} bits, "
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
        _check_grid(one.node, one.op_type, name, activations)
    if one.closes is not None:
        _check_clamp(one.node, one.closes, one.low, one.high, activations)


def _check_grid(
    node: str, op_type: str, name: str, activations: Mapping[str, ActivationChoice]
) -> None:
    choice = activations.get(name)
    if choice is None:
        raise PlanError(
            f"node {node!r} ({op_type}) is planned in integers, and tensor {name!r} has no range\n"
            "  Add it to the plan's activations, or leave the node in floats."
        )
    if not (np.isfinite(choice.low) and np.isfinite(choice.high) and choice.low <= choice.high):
        raise PlanError(
            f"the plan's range of tensor {name!r} is [{choice.low}, {choice.high}], and it "
            "must be finite and in order\n  Correct it in the plan."
        )


def _check_clamp(
    node: str, closes: str, low: float, high: float, activations: Mapping[str, ActivationChoice]
) -> None:
    choice = activations[closes]
    if choice.low < low or choice.high > high * (1 + _CLAMP_SLACK):
        raise PlanError(
            f"the plan's range of tensor {closes!r} is [{choice.low}, {choice.high}], and "
            f"what follows node {node!r} limits it to [{low}, {high}]\n"
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


def planned_joints(model: ir.Model, plan: Plan) -> tuple[Joint, ...]:
    """Return the nodes without a weight that the plan makes integer kernels of.

    A joint whose input already comes from a grid was done before.

    Raises:
        PlanError: If such a node is missing, cannot run on integers, or lacks a grid.
    """
    if not plan.joined:
        return ()
    found = {one.y: one for one in joints(model, integer_candidates(model))}
    made = {str(out.name): node for node in model.graph for out in node.outputs}
    planned = []
    for name in plan.joined:
        if name in made and _is_joined(made[name]):
            continue
        one = found.get(name)
        if one is None or one.reason:
            why = "no kernel beside it writes integers" if one is None else one.reason
            raise PlanError(
                f"the plan joins the node that makes {name!r} to integer kernels, and it cannot "
                f"be one: {why}\n  Take it out of the plan's joined."
            )
        _check_joint(one, plan.activations)
        planned.append(one)
    return tuple(planned)


def _is_joined(node: ir.Node) -> bool:
    producers = [value.producer() for value in node.inputs if value is not None]
    return any(one is not None and integer_role(one) == "leave" for one in producers)


def _check_joint(one: Joint, activations: Mapping[str, ActivationChoice]) -> None:
    for name in (*one.reads, one.closes):
        _check_grid(one.node, one.op_type, name, activations)
    if one.keeps_grid:
        before, after = activations[one.reads[0]], activations[one.closes]
        if (before.low, before.high) != (after.low, after.high):
            raise PlanError(
                f"node {one.node!r} ({one.op_type}) moves integers as they are, and the plan's "
                f"ranges of {one.reads[0]!r} and {one.closes!r} differ\n  Make them equal."
            )
    _check_clamp(one.node, one.closes, one.low, one.high, activations)


def grid_tensors(planned: Iterable[Candidate], joined: Iterable[Joint] = ()) -> tuple[str, ...]:
    """Return the tensors that need a grid, each once, in the order of the nodes."""
    names = [name for one in planned for name in (one.x, one.closes) if name is not None]
    names += [name for joint in joined for name in (*joint.reads, joint.closes)]
    return tuple(dict.fromkeys(names))

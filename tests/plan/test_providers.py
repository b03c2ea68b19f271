"""What may be planned for a provider: facts, without the provider."""

from __future__ import annotations

import pytest

from onnxsqueeze.config import Limits, Target
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.plan.make import make_plan
from onnxsqueeze.plan.providers import (
    accuracy_level,
    measures_integers,
    options_note,
    plans_integers,
    recipe,
    why_no_integers,
    with_options,
)
from tests.plan.weight_facts import weight

NAMES = ("cpu", "cuda", "tensorrt", "openvino")


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_has_a_source_and_reasons(name):
    found = recipe(name)
    assert found.provider == name
    assert "onnxruntime" in found.source.lower() or "ONNX Runtime" in found.source
    missing = {"qdq", "dynamic"} - set(found.integer_forms)
    assert missing <= found.reasons.keys()


@pytest.mark.parametrize("name", ["cuda", "CUDA", "CUDAExecutionProvider"])
def test_cuda_has_no_qdq_and_computes_in_float16(name):
    found = recipe(name)
    assert "qdq" not in found.integer_forms
    assert found.compute == "float16"
    assert not plans_integers(Target(provider=name))
    assert "no QLinearConv" in why_no_integers(name)


def test_tensorrt_has_symmetric_grids_only():
    found = recipe("tensorrt")
    assert (found.integer_forms, found.grid, found.compute) == (("qdq",), "symmetric", "float32")
    assert plans_integers(Target(provider="tensorrt"))
    assert not measures_integers(Target(provider="tensorrt"))
    assert "zero point 0 only" in found.reasons["zero points"]


def test_what_is_not_known_is_only_stored():
    found = recipe("SomeExecutionProvider")
    assert (found.integer_forms, found.compute) == ((), "float32")
    assert "nothing is known" in why_no_integers("SomeExecutionProvider")


def test_levels_are_checked():
    assert accuracy_level("cpu", 4) == 4
    with pytest.raises(PlanError, match="accuracy level 4 of MatMulNBits is not one that cuda"):
        accuracy_level("cuda", 4)
    with pytest.raises(PlanError, match="there is no such kernel"):
        accuracy_level("tensorrt", 0)


def test_a_plan_says_why_there_are_no_integer_kernels():
    facts = Facts(
        model_sha256="0",
        data_sha256="1",
        shapes={},
        weights=(weight("w"),),
        left_alone={},
        grams={},
    )
    noted = {
        (provider, objective): any(
            "no integer kernels" in note
            for note in make_plan(
                facts,
                Target(provider=provider, objective=objective),
                Limits(),
                damage_limit=0.1,
            ).notes
        )
        for provider in ("cpu", "cuda")
        for objective in ("latency", "size")
    }
    assert noted == {
        ("cpu", "latency"): False,
        ("cpu", "size"): False,
        ("cuda", "latency"): True,
        ("cuda", "size"): False,
    }


def test_options_of_the_recipe_are_used_unless_others_are_given():
    given = {"tensorrt": {"trt_fp16_enable": "0"}, "cuda": {"device_id": "1"}}
    target = Target(provider="cpu", also=("tensorrt", "cuda"), provider_options=given)
    assert with_options(target).provider_options == {
        "tensorrt": {"trt_fp16_enable": "0", "trt_int8_enable": "1"},
        "cuda": {"device_id": "1"},
    }
    assert "trt_int8_enable=1" in options_note("tensorrt")

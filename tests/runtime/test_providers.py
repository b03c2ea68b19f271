"""Providers: decisions about what a build claims and a session has, on any machine."""

from __future__ import annotations

import pytest

from onnxsqueeze.config import Provider, Target
from onnxsqueeze.errors import ProviderError
from onnxsqueeze.runtime import ort, providers
from tests.runtime.made import made

CPU, CUDA, TENSORRT = (providers.full_name(name) for name in ("cpu", "cuda", "tensorrt"))
IDLE = "AzureExecutionProvider"
"""A provider that PyPI's builds have, and that takes no node of any ordinary model."""
RELU = """
g (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }"""

needs_idle = pytest.mark.skipif(
    IDLE not in ort.engine().get_available_providers(), reason=f"this build has no {IDLE}"
)


@pytest.mark.parametrize(
    ("name", "available", "got", "why"),
    [
        ("cpu", [CPU], [CPU], ""),
        ("cuda", [CUDA, CPU], [CUDA, CPU], ""),
        ("cuda", [CUDA, CPU], None, ""),
        ("cuda", [CPU], None, "this build of ONNX Runtime does not have it"),
        # onnxruntime-gpu without CUDA's libraries claims the provider, and falls back.
        ("cuda", [TENSORRT, CUDA, CPU], [CPU], "it did not start, and ONNX Runtime fell back to"),
        ("tensorrt", [TENSORRT, CUDA, CPU], [CUDA, CPU], f"fell back to {CUDA}, {CPU}"),
        (TENSORRT, [CPU], None, "does not have it"),
    ],
)
def test_a_claim_counts_for_nothing(name, available, got, why):
    found = providers.told(name, available, got)

    if why:
        first, *rest = found.splitlines()
        assert first.startswith(f"execution provider {providers.full_name(name)} was asked for")
        assert why in first
        assert f"Offered by the installed build: {', '.join(available)}." in rest[0]
        is_claimed = providers.full_name(name) in available
        assert ("The build has it, and what it needs is not here" in found) == is_claimed
        assert ("pip install 'onnxsqueeze[gpu]'" in found) != is_claimed
    else:
        assert found == ""


@pytest.mark.parametrize(
    ("name", "command", "library"),
    [
        ("cuda", "onnxsqueeze[gpu]", "an NVIDIA GPU with its driver, and CUDA and cuDNN"),
        ("TensorrtExecutionProvider", "onnxsqueeze[gpu]", "TensorRT 10"),
        ("openvino", "pip install onnxruntime-openvino", ""),
        ("QNNExecutionProvider", "https://onnxruntime.ai/docs/execution-providers/", ""),
    ],
)
def test_a_refusal_says_what_to_install(name, command, library):
    found = providers.told(name, [CPU])
    assert command in found
    assert library in found


@pytest.mark.parametrize(
    ("allow_fallback", "nodes", "is_refused"),
    [
        ("some", {CUDA: 3}, False),
        ("some", {CUDA: 1, CPU: 99}, False),
        ("some", {CPU: 4}, True),
        ("none", {CPU: 4}, True),
        ("all", {CPU: 4}, False),
        # A model without nodes, or a build that does not tell.
        ("some", {}, False),
    ],
)
def test_a_provider_that_runs_nothing_is_of_no_use(allow_fallback, nodes, is_refused):
    found = providers.idle(Provider(name="cuda", allow_fallback=allow_fallback), nodes)
    assert bool(found) == is_refused
    if is_refused:
        assert "would run none of the 4 nodes" in found
        assert f"gives them to {CPU}: 4." in found


def test_what_a_session_is_asked_for():
    given = Provider(name="tensorrt", options={"trt_fp16_enable": "1"})
    options = {"trt_fp16_enable": "1"}
    assert providers.asked(given, [TENSORRT, CUDA, CPU]) == [(TENSORRT, options), (CUDA, {})]
    assert providers.asked(given, [TENSORRT, CPU]) == [(TENSORRT, options)]
    assert providers.asked(Provider(), [CPU]) == [(CPU, {})]


def test_only_the_accelerator_may_run_where_no_fallback_is_allowed():
    alone = providers.config_entries(Provider(name="cuda", allow_fallback="none"))
    assert alone == {providers.RECORD: "1", providers.ONLY_ACCELERATOR: "1"}
    assert providers.config_entries(Provider(name="cuda")) == {providers.RECORD: "1"}
    assert providers.config_entries(Provider(allow_fallback="none")) == {}


def test_a_target_gives_each_provider_its_options_once():
    target = Target(
        provider="cuda",
        also=("cpu", "cuda"),
        provider_options={"cuda": {"device_id": "1"}},
        allow_fallback="all",
    )
    assert target.providers == (
        Provider(name="cuda", options={"device_id": "1"}, allow_fallback="all"),
        Provider(name="cpu", allow_fallback="all"),
    )


@needs_idle
def test_a_session_that_would_run_nothing_on_it_is_refused():
    with pytest.raises(ProviderError, match="would run none of the 1 nodes"):
        ort.session(made(RELU), provider=IDLE)


@needs_idle
def test_a_provider_without_nodes_is_taken_where_that_was_allowed():
    session = ort.session(made(RELU), provider=Provider(name=IDLE, allow_fallback="all"))
    assert session.get_providers() == [IDLE, CPU]
    assert ort.assignment(session) == {CPU: [("", "Relu")]}


@needs_idle
def test_no_fallback_means_none():
    with pytest.raises(ProviderError, match="cannot run every node alone") as caught:
        ort.session(made(RELU), provider=Provider(name=IDLE, allow_fallback="none"))
    assert "explicitly disabled by the user" in str(caught.value)


def test_what_the_build_lacks_is_told_before_any_session():
    with pytest.raises(ProviderError, match="NoSuchExecutionProvider was asked for"):
        ort.check_providers([Provider(), Provider(name="NoSuchExecutionProvider")])
    ort.check_providers([Provider()])

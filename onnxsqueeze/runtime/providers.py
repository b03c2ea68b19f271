"""Execution providers: what they are called, what they need, and whether one really is there.

``get_available_providers`` lists what was compiled in: onnxruntime-gpu names CUDA and TensorRT on
machines without their libraries, and a session that is made there runs on the CPU after a mere
warning. So only a session that was made tells which providers it has, and only its assignment of
nodes tells whether they run anything. The decisions are pure, for tests on any machine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from onnxsqueeze.config import Provider

CPU = "CPUExecutionProvider"
ONLY_ACCELERATOR = "session.disable_cpu_ep_fallback"
NOT_ALONE = "CPU EP"
"""In ONNX Runtime's words where nodes need the CPU, and it was told not to use it."""
RECORD = "session.record_ep_graph_assignment_info"
ASSIGNMENT = "get_provider_graph_assignment_info"
"""What a session answers the record by, from ONNX Runtime 1.24 on."""


@dataclass(frozen=True)
class Need:
    """What a provider needs to be there.

    Attributes:
        name: ONNX Runtime's name of it.
        install: The command that installs a build that has it.
        libraries: What else must be on the machine; empty if nothing.
        behind: Providers that take the nodes that it leaves, before the CPU does.
    """

    name: str
    install: str
    libraries: str = ""
    behind: tuple[str, ...] = ()


_CUDA = (
    "an NVIDIA GPU with its driver, and CUDA and cuDNN of the versions that this build was made "
    "for\n  (pip install 'onnxruntime-gpu[cuda,cudnn]' brings them)"
)

NEEDS: Mapping[str, Need] = {
    "cpu": Need(CPU, "pip install 'onnxsqueeze[cpu]'"),
    "cuda": Need("CUDAExecutionProvider", "pip install 'onnxsqueeze[gpu]'", _CUDA),
    "tensorrt": Need(
        "TensorrtExecutionProvider",
        "pip install 'onnxsqueeze[gpu]'",
        f"{_CUDA}, and TensorRT 10",
        ("CUDAExecutionProvider",),
    ),
    "openvino": Need("OpenVINOExecutionProvider", "pip install onnxruntime-openvino"),
}
"""By short name.

Source:
    https://onnxruntime.ai/docs/execution-providers/ (CUDA: Requirements; TensorRT: Requirements,
    and that CUDA is registered behind it; OpenVINO: Install).
"""


def full_name(provider: str) -> str:
    """Return ONNX Runtime's name of a provider given by its short or full name.

    Example:
        >>> full_name("CUDA"), full_name("QNNExecutionProvider")
        ('CUDAExecutionProvider', 'QNNExecutionProvider')
    """
    known = NEEDS.get(provider.lower())
    return provider if known is None else known.name


def named(provider: str | Provider) -> Provider:
    """Return a provider given by its name alone, or as it is."""
    return Provider(name=provider) if isinstance(provider, str) else provider


def is_cpu(provider: str | Provider) -> bool:
    """Return whether this is the provider that runs on the processor by itself.

    Example:
        >>> is_cpu("CPU"), is_cpu("openvino")
        (True, False)
    """
    return full_name(named(provider).name) == CPU


def asked(provider: Provider, available: Collection[str]) -> list[tuple[str, dict[str, str]]]:
    """Return what a session's ``providers`` should be: the provider, and those right behind it.

    The CPU is never listed: ONNX Runtime adds it by itself, and refuses to run only on the
    accelerator where it is.

    Example:
        >>> asked(Provider(name="tensorrt"), ["CUDAExecutionProvider"])
        [('TensorrtExecutionProvider', {}), ('CUDAExecutionProvider', {})]
    """
    need = _need(provider.name)
    behind = [(name, dict[str, str]()) for name in need.behind if name in available]
    return [(need.name, dict(provider.options)), *behind]


def config_entries(provider: Provider) -> dict[str, str]:
    """Return the session's configuration entries: the record, and no CPU where none is allowed.

    Example:
        >>> config_entries(Provider(name="cpu"))
        {}
        >>> config_entries(Provider(name="cuda", allow_fallback="none"))[ONLY_ACCELERATOR]
        '1'
    """
    if is_cpu(provider):
        return {}
    only = {ONLY_ACCELERATOR: "1"} if provider.allow_fallback == "none" else {}
    return {RECORD: "1", **only}


def told(name: str, available: Sequence[str], got: Sequence[str] | None = None) -> str:
    """Return why a provider cannot be used, and what to do; empty where nothing is against it.

    Args:
        name: Short or full name of what was asked for.
        available: What the installed build claims to have; it says nothing in its favour.
        got: What a session that was made with it really has; None before one was made.

    Example:
        >>> told("cpu", ["CPUExecutionProvider"], ["CPUExecutionProvider"])
        ''
        >>> print(told("cuda", ["CUDAExecutionProvider"], ["CPUExecutionProvider"])[:58])
        execution provider CUDAExecutionProvider was asked for and
    """
    full = full_name(name)
    if full not in available:
        return _refusal(name, "this build of ONNX Runtime does not have it", available)
    if got is not None and full not in got:
        why = f"it did not start, and ONNX Runtime fell back to {', '.join(got) or 'nothing'}"
        return _refusal(name, why, available)
    return ""


def idle(provider: Provider, nodes: Mapping[str, int]) -> str:
    """Return why a provider that is there is of no use: it runs no node; empty otherwise.

    Args:
        provider: What was asked for.
        nodes: How many nodes each provider was given, by full name; none for a model without any.

    Example:
        >>> idle(Provider(name="cuda"), {"CUDAExecutionProvider": 1, "CPUExecutionProvider": 9})
        ''
        >>> idle(Provider(name="cuda"), {"CPUExecutionProvider": 9}).splitlines()[1].strip()
        'ONNX Runtime gives them to CPUExecutionProvider: 9.'
    """
    full, every = full_name(provider.name), sum(nodes.values())
    if provider.allow_fallback == "all" or not every or nodes.get(full, 0):
        return ""
    others = ", ".join(f"{name}: {count}" for name, count in sorted(nodes.items()) if count)
    return (
        f"execution provider {full} was asked for and would run none of the {every} nodes\n"
        f"  ONNX Runtime gives them to {others}.\n"
        "  Ask for one of these, or take it with --allow-fallback all."
    )


def not_alone(provider: Provider, words: str) -> str:
    """Return what to tell where nodes need the CPU and none may run there."""
    return (
        f"execution provider {full_name(provider.name)} cannot run every node alone, "
        "and --allow-fallback none was asked for\n"
        f"  ONNX Runtime: {words.strip().splitlines()[0]}\n"
        "  See which nodes it leaves: --allow-fallback some."
    )


def _need(name: str) -> Need:
    return NEEDS.get(name.lower()) or next(
        (need for need in NEEDS.values() if need.name == name),
        Need(name, "see https://onnxruntime.ai/docs/execution-providers/"),
    )


def _refusal(name: str, why: str, available: Sequence[str]) -> str:
    need = _need(name)
    install = (
        f"  Install what has it: {need.install}\n"
        "  (onnxruntime and onnxruntime-gpu share one name: uninstall the other first.)"
    )
    if need.name in available:
        install = "  The build has it, and what it needs is not here, or does not fit."
    libraries = f"\n  It needs {need.libraries}." if need.libraries else ""
    return (
        f"execution provider {need.name} was asked for and cannot be used: {why}\n"
        f"  Offered by the installed build: {', '.join(available)}.\n"
        f"{install}{libraries}"
    )

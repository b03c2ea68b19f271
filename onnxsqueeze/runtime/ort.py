"""ONNX Runtime sessions: made in one way, run by name, read back as optimized."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.errors import DependencyError, ModelError, ProviderError
from onnxsqueeze.graph import walk

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]
Optimization = Literal["default", "extended", "basic", "off"]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
# A protobuf message ends at 2 GiB; leave room for the graph itself.
INLINE_LIMIT_BYTES = 1_900_000_000


def engine() -> Any:
    """Return the onnxruntime module.

    Raises:
        DependencyError: If neither onnxruntime nor onnxruntime-gpu is installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(
            f"ONNX Runtime is needed to run models and is not installed ({error})\n"
            "  Install one of the two, never both:\n"
            "    pip install 'onnxsqueeze[cpu]'\n"
            "    pip install 'onnxsqueeze[gpu]'"
        ) from error
    return onnxruntime


def provider_name(provider: str) -> str:
    """Return ONNX Runtime's name of a provider given by its short or full name."""
    return PROVIDERS.get(provider.lower(), provider)


def session_options(
    optimization: Optimization = "default", threads: int = 1, low_memory: bool = False
) -> Any:
    """Return an `onnxruntime.SessionOptions`, spinning off; ``low_memory`` frees buffers early."""
    ort = engine()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = {
        "default": level.ORT_ENABLE_ALL,
        "extended": level.ORT_ENABLE_EXTENDED,
        "basic": level.ORT_ENABLE_BASIC,
        "off": level.ORT_DISABLE_ALL,
    }[optimization]
    if low_memory:
        # A node runs as soon as its inputs are there and buffers are freed after use, so that
        # what hangs on a tensor runs before the next tensor is made.
        options.enable_mem_pattern = False
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    return options


def session(
    model: ir.Model | Path | bytes,
    *,
    optimization: Optimization = "default",
    threads: int = 1,
    provider: str = "cpu",
    low_memory: bool = False,
    options: Any = None,
) -> Any:
    """Return an ``onnxruntime.InferenceSession`` whose provider is the one asked for.

    Raises:
        ModelError: If ONNX Runtime does not load the model; its own words are in the message.
        ProviderError: If the provider is not there.
    """
    ort = engine()
    name = provider_name(provider)
    if name not in ort.get_available_providers():
        raise _no_provider(name, "this build of ONNX Runtime does not have it")
    options = options or session_options(optimization, threads, low_memory)
    with tempfile.TemporaryDirectory(prefix="onnxsqueeze-") as folder:
        source = _source(model, options, Path(folder))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the check below says it as an error
                made = ort.InferenceSession(source, options, providers=[name])
        except engine_errors() as error:
            raise ModelError(
                f"ONNX Runtime {ort.__version__} does not load the model: {error}"
            ) from error
    if name not in made.get_providers():
        raise _no_provider(name, "ONNX Runtime fell back to " + ", ".join(made.get_providers()))
    return made


def _no_provider(name: str, why: str) -> ProviderError:
    available = ", ".join(engine().get_available_providers())
    package = "onnxsqueeze[cpu]" if name == PROVIDERS["cpu"] else "onnxsqueeze[gpu]"
    return ProviderError(
        f"execution provider {name} was asked for and cannot be used: {why}\n"
        f"  Offered by the installed build: {available}.\n"
        f"  Install what it needs (pip install '{package}', and the vendor's libraries),\n"
        "  or ask for another."
    )


def engine_errors() -> tuple[type[Exception], ...]:
    """Return the exception types that ONNX Runtime raises for a model or feed it refuses."""
    state = engine().capi.onnxruntime_pybind11_state
    own = tuple(
        value
        for value in vars(state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    )
    return (*own, RuntimeError)


def _source(model: ir.Model | Path | bytes, options: Any, folder: Path) -> str | bytes:
    """Return what a session is made from: a path, or bytes with external data in ``options``."""
    if isinstance(model, bytes):
        return model
    if isinstance(model, Path):
        return str(model)
    inline, bases = 0, set()
    for _, value in walk.initializers(model):
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            bases.add(str(tensor.base_dir))
        elif tensor is not None:
            inline += tensor.nbytes
    if inline > INLINE_LIMIT_BYTES or len(bases) > 1:
        path = folder / "model.onnx"
        ir.save(model, path, external_data="model.onnx.data")
        return str(path)
    if bases:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", bases.pop()
        )
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def run(made: Any, feed: Feed, names: Sequence[str] | None = None) -> dict[str, Array]:
    """Run a session once and return its outputs (or those called ``names``) by name.

    Raises:
        ModelError: If ONNX Runtime refuses the feed or fails in a node.
    """
    wanted = list(names) if names is not None else [output.name for output in made.get_outputs()]
    try:
        values = made.run(wanted, {name: np.asarray(value) for name, value in feed.items()})
    except engine_errors() as error:
        shapes = ", ".join(
            f"{k}: {np.asarray(v).dtype}{list(np.shape(v))}" for k, v in feed.items()
        )
        raise ModelError(
            f"the model does not run: {error}\n  It was fed with {shapes}."
        ) from error
    return dict(zip(wanted, values, strict=True))


def run_all(made: Any, feeds: Iterable[Feed]) -> list[dict[str, Array]]:
    """Run a session on each feed; one mapping of outputs per feed, to be kept."""
    return [kept(run(made, feed)) for feed in feeds]


def kept(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of outputs, to keep: an output itself holds its session's whole arena."""
    return {
        name: value.copy() if isinstance(value, np.ndarray) else value
        for name, value in outputs.items()
    }


def expose(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """Return a copy of ``model`` that outputs the main graph's values called ``names``.

    Nodes that none of them needs are left out, so that a session runs only as far as it must.
    """
    copy = model.clone()
    found = {value.name: value for value in _values(copy.graph)}
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(found[name] for name in names)
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(copy)
    return copy


def _values(graph: ir.Graph) -> Iterable[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def optimized(model: ir.Model | Path, level: Optimization = "default") -> ir.Model:
    """Return the graph that ONNX Runtime makes of ``model``, with its weights.

    The weights of a model with external data cannot be read from it: they stay behind on disk.
    """
    options = session_options(level)
    if _has_external_data(ir.load(model) if isinstance(model, Path) else model):
        prefix = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(prefix + "file_name", "optimized.data")
        options.add_session_config_entry(prefix + "min_size_in_bytes", "4096")
    with tempfile.TemporaryDirectory(prefix="onnxsqueeze-") as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session(model, options=options)
        return ir.load(path)


def _has_external_data(model: ir.Model) -> bool:
    return any(
        isinstance(value.const_value, ir.ExternalTensor) for _, value in walk.initializers(model)
    )

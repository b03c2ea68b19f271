"""ONNX Runtime sessions: made in one way, run by name, read back as optimized."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.config import Provider
from onnxsqueeze.errors import DependencyError, ModelError, ProviderError
from onnxsqueeze.graph import walk
from onnxsqueeze.graph.mapped import inlined
from onnxsqueeze.runtime import providers

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]
Optimization = Literal["default", "extended", "basic", "off"]

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


def _advice(error: Exception) -> str:
    if "is not a registered function/op" not in str(error):
        return ""
    return (
        "\n  The operator comes from a library of its own, and none is ever loaded. Export the"
        "\n  model without it, or as a function of standard operators."
    )


def session(
    model: ir.Model | Path | bytes,
    *,
    optimization: Optimization = "default",
    threads: int = 1,
    provider: str | Provider = "cpu",
    low_memory: bool = False,
    options: Any = None,
) -> Any:
    """Return an ``onnxruntime.InferenceSession`` whose provider is there, and runs nodes.

    Raises:
        ModelError: If ONNX Runtime does not load the model; its own words are in the message.
        ProviderError: If the provider is not there, or runs no node; or where it may not be
            helped out by the CPU, does not run all of them.
    """
    ort, chosen = engine(), providers.named(provider)
    available = ort.get_available_providers()
    _refuse(providers.told(chosen.name, available))
    options = options or session_options(optimization, threads, low_memory)
    for key, value in providers.config_entries(chosen).items():
        options.add_session_config_entry(key, value)
    with tempfile.TemporaryDirectory(prefix="onnxsqueeze-") as folder:
        source = _source(model, options, Path(folder))
        try:
            with _quiet(chosen):
                made = ort.InferenceSession(
                    source, options, providers=providers.asked(chosen, available)
                )
        except engine_errors() as error:
            if chosen.allow_fallback == "none" and providers.NOT_ALONE in str(error):
                # One that did not start at all ends here, too, and is told as such.
                session(model, provider=chosen.model_copy(update={"allow_fallback": "all"}))
                raise ProviderError(providers.not_alone(chosen, str(error))) from error
            raise ModelError(
                f"ONNX Runtime {ort.__version__} does not load the model: {error}{_advice(error)}"
            ) from error
    _refuse(providers.told(chosen.name, available, made.get_providers()))
    if not providers.is_cpu(chosen):
        nodes = {name: len(found) for name, found in assignment(made).items()}
        _refuse(providers.idle(chosen, nodes))
    return made


@contextmanager
def _quiet(provider: Provider) -> Iterator[None]:
    """Keep ONNX Runtime from printing about a provider that does not start: an error tells it."""
    if providers.is_cpu(provider):
        yield
        return
    engine().set_default_logger_severity(4)
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore", UserWarning)
        yield


def check_providers(asked: Iterable[Provider]) -> None:
    """Raise ProviderError if the installed build lacks one of the providers; makes no session."""
    available = engine().get_available_providers()
    for one in asked:
        _refuse(providers.told(one.name, available))


def _refuse(why: str) -> None:
    if why:
        raise ProviderError(why)


def assignment(made: Any) -> dict[str, list[tuple[str, str]]]:
    """Return the (domain, operator) of the nodes that each provider of a session was given.

    It is empty for a build that does not tell (ONNX Runtime before 1.24), and for a session that
    was not made to tell: see ``providers.RECORD``.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    if hasattr(made, providers.ASSIGNMENT):
        for part in getattr(made, providers.ASSIGNMENT)():
            nodes = [(node.domain, node.op_type) for node in part.get_nodes()]
            found.setdefault(part.ep_name, []).extend(nodes)
    return found


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
    inline, by_folder = 0, dict[str, int]()
    for _, value in walk.initializers(model):
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            base = str(tensor.base_dir)
            by_folder[base] = by_folder.get(base, 0) + tensor.nbytes
        elif tensor is not None:
            inline += tensor.nbytes
    # A session reads from one folder: what lies in others is small, or goes along in memory.
    named = max(by_folder, key=lambda base: by_folder[base], default=None)
    inline += sum(size for base, size in by_folder.items() if base != named)
    if inline > INLINE_LIMIT_BYTES:
        path = folder / "model.onnx"
        ir.save(model, path, external_data="model.onnx.data")
        return str(path)
    if named is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", named
        )
    with inlined(model, but=named):
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

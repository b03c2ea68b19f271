"""From text on the command line, or in a configuration file, to settings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from pydantic import ValidationError

from onnxsqueeze.cli.option_types import (
    BitsType,
    FractionType,
    NumbersType,
    ProviderOptionType,
    SecondsType,
    SparsityType,
)
from onnxsqueeze.config import (
    WIDTHS,
    Budget,
    Calibration,
    Effort,
    Fallback,
    Importance,
    Limits,
    Provider,
    Settings,
    Target,
)
from onnxsqueeze.data import DataSettings, ImageSettings
from onnxsqueeze.data.function import is_function_name
from onnxsqueeze.facts.kernels import Kernels

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Decorator = Callable[[Any], Any]
SettingsType = TypeVar("SettingsType", bound=Settings)


def _config(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Read a TOML file: its keys are option names, and become the defaults of this command."""
    if path is None:
        return
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} is not TOML: {error}", ctx, param) from error
    names = _parameters(ctx.command)
    tables = {key: value for key, value in found.items() if isinstance(value, Mapping)}
    settings = {key: value for key, value in found.items() if key not in tables}
    settings |= tables.pop(str(ctx.command.name), {})
    group = ctx.find_root().command
    others = group.list_commands(ctx) if isinstance(group, click.Group) else []
    settings = {key.replace("_", "-"): value for key, value in settings.items()}
    unknown = sorted((settings.keys() - names.keys()) | (tables.keys() - set(others)))
    if unknown:
        known = ", ".join(sorted(names))
        raise click.BadParameter(
            f"{path} sets {', '.join(unknown)}, and '{ctx.command.name}' has no such option; "
            f"it has: {known}",
            ctx,
            param,
        )
    given = {names[key]: value for key, value in settings.items()}
    many = {
        str(one.name)
        for one in ctx.command.params
        if isinstance(one, click.Option) and one.multiple
    }
    given |= {name: (given[name],) for name in many & given.keys() if isinstance(given[name], str)}
    ctx.default_map = {**(ctx.default_map or {}), **given}


def _parameters(command: click.Command) -> dict[str, str]:
    """Return what each option and argument is called inside, by how a user writes it."""
    words = {
        text.lstrip("-"): str(one.name)
        for one in command.params
        for text in one.opts
        if one.name != "config" and (text.startswith("--") or not text.startswith("-"))
    }
    return {word.replace("_", "-"): name for word, name in words.items()}


def _together(*options: Decorator) -> Decorator:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


FILE = click.Path(path_type=Path)

model_argument = click.argument("model", type=FILE)

output_options = _together(
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the report as JSON, nothing else."
    ),
    click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_config,
        help="TOML file with option names as keys; the command line goes before it.",
    ),
)

data_options = _together(
    click.option(
        "--data",
        "source",
        help="Calibration samples: .npz, folder of .npz, .npy or images, of test_data_set_*, "
        "or package.module:function.",
    ),
    click.option("--labels", help="Labels of --data (.npy, .npz, .txt), if they are not inside."),
    click.option(
        "--eval",
        "evaluation",
        help="Samples to measure on. Without, a part of --data is held out.",
    ),
    click.option("--eval-labels", "evaluation_labels", help="Labels of --eval."),
    click.option(
        "--held-out",
        type=FractionType(),
        default="30%",
        show_default=True,
        help="Part of --data that is only measured on.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(min=1),
        default=1024,
        show_default=True,
        help="Most samples taken of each source, evenly spaced.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Of the draw of what is held out, and of random samples.",
    ),
    click.option(
        "--image-size", type=NumbersType(int, "x"), help="Height x width, as in 224x224."
    ),
    click.option(
        "--image-layout",
        type=click.Choice(["NCHW", "NHWC"]),
        default="NCHW",
        help="Order of the axes that the model reads.",
    ),
    click.option(
        "--image-channels",
        type=click.Choice(["RGB", "BGR", "L"]),
        default="RGB",
        help="Order of the channels; L is grey.",
    ),
    click.option(
        "--image-mean", type=NumbersType(float), default="0", help="After scaling to 0..1."
    ),
    click.option(
        "--image-std", type=NumbersType(float), default="1", help="What is divided by then."
    ),
    click.option(
        "--safe",
        is_flag=True,
        help="Run no code that an option names: refuse package.module:function, and options of "
        "providers, which can load libraries.",
    ),
)

budget_options = _together(
    click.option(
        "--max-drop",
        type=FractionType(),
        default="1%",
        show_default=True,
        help="Largest loss of the metric, as a part of the original's value.",
    ),
    click.option(
        "--metric",
        default="auto",
        show_default=True,
        help="auto (no labels needed), top1, accuracy, cosine, mse, perplexity or divergence (of "
        "language models), or package.module:function.",
    ),
)

target_options = _together(
    click.option(
        "--objective",
        type=click.Choice(["size", "latency", "balanced"]),
        default="balanced",
        show_default=True,
        help="What the result should be best at.",
    ),
    click.option(
        "--operators",
        type=click.Choice(["standard", "runtime"]),
        default=Target().operators,
        show_default=True,
        help="runtime: write MatMulNBits and GatherBlockQuantized of ONNX Runtime themselves.",
    ),
    click.option(
        "--portable",
        is_flag=True,
        help="Write DequantizeLinear instead of what ONNX Runtime folds when it loads.",
    ),
    click.option(
        "--npu",
        is_flag=True,
        help="Write activations of 16 bits beside weights of 8, for an NPU's compiler; on a CPU "
        "such a file is slow.",
    ),
    click.option(
        "--sparse-initializer",
        is_flag=True,
        help="Write pruned weights as standard sparse initializers: float, and smaller only from "
        "two thirds zeros on.",
    ),
    click.option(
        "--target-facts",
        "kernels_file",
        type=FILE,
        help="Facts of the target's integer kernels: 'onnxsqueeze doctor -o FILE', run there.",
    ),
    click.option(
        "--calibration",
        type=click.Choice(get_args(Calibration)),
        default=Target().calibration,
        show_default=True,
        help="How ranges of activations are told; auto compares the methods for each: slower.",
    ),
)

engine_options = _together(
    click.option(
        "--provider",
        multiple=True,
        default=("cpu",),
        show_default=True,
        help="cpu, cuda, tensorrt, openvino or ONNX Runtime's own name of an execution provider. "
        "Repeatable: the first decides, the result is measured on all.",
    ),
    click.option(
        "--provider-options",
        multiple=True,
        type=ProviderOptionType(),
        metavar="[PROVIDER:]KEY=VALUE",
        help="Option of a provider, of the first one without its name. Repeatable.",
    ),
    click.option(
        "--allow-fallback",
        type=click.Choice(get_args(Fallback)),
        default=Provider().allow_fallback,
        show_default=True,
        help="Nodes that the CPU may run instead of a provider; all: a provider may run nothing.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        default=1,
        show_default=True,
        help="Threads of ONNX Runtime, also where latency is measured.",
    ),
)

limit_options = _together(
    click.option(
        "--bits",
        type=BitsType(),
        default=",".join(str(width) for width in WIDTHS),
        show_default=True,
        help="Bit widths that weights may be stored with; 16 is float16, and 32 alone leaves them "
        "as they are. Conv=8,Gemm=4/8: those of one operator's weights.",
    ),
    click.option(
        "--keep",
        multiple=True,
        metavar="PATTERN",
        help="Initializers or nodes to leave alone (regular expression, whole name). Repeatable.",
    ),
    click.option(
        "--prune-below",
        type=click.FloatRange(min=0, min_open=True),
        help="Weights with a smaller magnitude become zero.",
    ),
    click.option(
        "--sparsity",
        type=SparsityType(),
        help="Part of the single weights that becomes zero (50%), or a pattern (2:4): those of "
        "least worth; the others make up for them.",
    ),
    click.option(
        "--shrink",
        type=click.Choice(["l1", "l2"]),
        help="Tell which weights go by a penalty's pull instead of by their price.",
    ),
    click.option("--time-limit", type=SecondsType(), help="End the search with the best so far."),
    click.option(
        "--prune",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        show_default=True,
        help="Remove channels, neurons and heads; auto: for objective latency, where it may take "
        "long, and for balanced where it is quick or foretold to pay.",
    ),
    click.option(
        "--max-prune",
        type=FractionType(),
        default="80%",
        show_default=True,
        help="Largest part of the multiply-adds that may go with them.",
    ),
    click.option(
        "--importance",
        type=click.Choice(get_args(Importance)),
        default=Limits().importance,
        show_default=True,
        help="What ranks them: error after repair (obs), gradients (taylor, fisher; they need "
        "onnxsqueeze[torch]), size (l1, l2), size times input, or mutual information.",
    ),
    click.option(
        "--effort",
        type=click.Choice(get_args(Effort)),
        default="standard",
        show_default=True,
        help="quick: each weight rounded by itself; standard: also in the order of the graph, "
        "with biases corrected; thorough: more plans that way.",
    ),
)

run_option = click.option(
    "--run",
    type=FILE,
    help="Run folder for facts, plan and reports. The same folder is gone on with.",
)


def refuse_code(values: Mapping[str, Any]) -> None:
    """Refuse options that run code which a file or the command line names; for ``--safe``."""
    may_be_code = {"--data": "source", "--eval": "evaluation", "--metric": "metric"}
    named = {
        option: str(values[name])
        for option, name in may_be_code.items()
        if is_function_name(str(values.get(name, ""))) and not Path(str(values[name])).exists()
    }
    for option, name in named.items():
        raise click.UsageError(
            f"{option} {name} is code to be imported and run, which --safe refuses; "
            "give samples as files and a metric by its name, or leave out --safe"
        )
    if values.get("provider_options"):
        raise click.UsageError(
            "--provider-options can make a provider load a library, which --safe refuses; "
            "leave out one of the two"
        )


def data_settings(values: Mapping[str, Any]) -> DataSettings:
    """Return where samples come from; options for images count only with ``--image-size``."""
    if values.get("safe"):
        refuse_code(values)
    images = None
    if values.get("image_size") is not None:
        images = checked(
            ImageSettings,
            size=values["image_size"],
            layout=values["image_layout"],
            channels=values["image_channels"],
            mean=values["image_mean"],
            std=values["image_std"],
        )
    names = ("source", "labels", "evaluation", "evaluation_labels", "limit", "held_out", "seed")
    given = {name: values[name] for name in names if name in values}
    if not 0 < given["held_out"] < 1:
        raise click.UsageError("--held-out: it must leave samples on both sides, as 30% does")
    return DataSettings(**given, images=images)


def budget(values: Mapping[str, Any]) -> Budget:
    """Return how much may be lost; a drop that nobody asked for is not among what was set."""
    given = {name: values[name] for name in ("max_drop", "metric", "seed")}
    context = click.get_current_context(silent=True)
    source = None if context is None else context.get_parameter_source("max_drop")
    if source is click.core.ParameterSource.DEFAULT:
        del given["max_drop"]
    return checked(Budget, **given)


def target(values: Mapping[str, Any]) -> Target:
    """Return where the result will run, and what for."""
    names = (
        "objective",
        "portable",
        "npu",
        "operators",
        "sparse_initializer",
        "calibration",
        "allow_fallback",
        "threads",
    )
    given = {name: values[name] for name in names if name in values}
    given |= _providers(values)
    file = values.get("kernels_file")
    if file is not None:
        Kernels.load(file)  # a file that holds none ends the command before it measures
        given["kernels_file"] = str(file)
    return checked(Target, **given)


def _providers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the providers asked for, the one that decides first, and their options."""
    asked = tuple(values.get("provider", ())) or (Target().provider,)
    first, *also = asked
    options: dict[str, dict[str, str]] = {}
    for name, key, value in values.get("provider_options", ()):
        if name and name not in asked:
            raise click.UsageError(
                f"--provider-options: {name}:{key} is for a provider that is not asked for, "
                f"as {' and '.join(asked)} is"
            )
        options.setdefault(name or first, {})[key] = value
    return {"provider": first, "also": tuple(also), "provider_options": options}


def limits(values: Mapping[str, Any]) -> Limits:
    """Return what must not be done."""
    widths: dict[str, tuple[int, ...]] = {}
    for operator, width in values["bits"]:
        widths[operator] = (*widths.get(operator, ()), width)
    sparsity = values["sparsity"]
    return checked(
        Limits,
        bits=widths.pop("", WIDTHS),
        operator_bits=widths,
        keep=values["keep"],
        prune_below=values["prune_below"],
        **{"pattern" if isinstance(sparsity, str) else "sparsity": sparsity},
        shrink=values["shrink"],
        time_limit_s=values["time_limit"],
        effort=values["effort"],
        prune=values["prune"],
        max_prune=values["max_prune"],
        importance=values["importance"],
    )


OPTION_OF = {"operator_bits": "bits", "pattern": "sparsity"}
"""Options that set a field of another name."""


def checked(kind: type[SettingsType], **fields: Any) -> SettingsType:
    """Return settings, or raise click's usage error that names the option."""
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        option = "--" + OPTION_OF.get(name, name).replace("_", "-")
        raise click.UsageError(
            f"{option}: {first['msg'].removeprefix('Value error, ')}"
        ) from error

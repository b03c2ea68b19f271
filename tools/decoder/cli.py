"""The command line of tools/make_decoder."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from decoder.shape import POSITIONS, Shape, shape_of_size
from decoder.synthetic import write_synthetic

SHAPE_HELP = (
    "random: LAYERS,DIM,HIDDEN,HEADS,KEY_HEADS,VOCABULARY, such as 30,576,1536,9,3,49152; twice "
    "HEADS divides DIM, and KEY_HEADS divides HEADS"
)
_UNITS = {"": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9}


def size_bytes(text: str) -> float:
    """Return the bytes of a size such as 3.2GB.

    Example:
        >>> size_bytes("1.5MB")
        1500000.0
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?B)?\s*", text, re.IGNORECASE)
    if found is None or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size, such as 300MB or 3.2GB")
    return float(found[1]) * _UNITS[(found[2] or "").upper()]


def given_shape(text: str) -> Shape:
    """Return the shape with sizes such as 30,576,1536,9,3,49152; see ``SHAPE_HELP``.

    Example:
        >>> given_shape("30,576,1536,9,3,49152").size_bytes / 4e6  # million weights
        134.515008
    """
    found = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)", text)
    sizes = [int(part) for part in found.groups()] if found else [0]
    if not all(sizes) or sizes[1] % (2 * sizes[3]) or sizes[3] % sizes[4]:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape: {SHAPE_HELP}")
    layers, dim, hidden, heads, key_heads, vocabulary = sizes
    return Shape(layers, dim, hidden, heads, vocabulary, POSITIONS, True, heads // key_heads)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="tools/make_decoder",
        description="Write a decoder to test with: trained on text that ships with Python, or of "
        "any size with random weights. The folder gets model.onnx, calib.npz, eval.npz; with the "
        "trained one cached/model.onnx, the same with a cache, and cached/steps.npz to step with.",
        epilog="Training needs the extra torch.",
    )
    top.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    top.add_argument("--synthetic", type=size_bytes, metavar="SIZE", help="random, such as 3.2GB")
    top.add_argument("--shape", type=given_shape, help=SHAPE_HELP)
    top.add_argument("--steps", type=int, default=400, help="of training (400)")
    top.add_argument("--cache", action="store_true", help="random one: with inputs of a cache")
    top.add_argument("--untied", action="store_true", help="with a head of its own")
    top.add_argument("--seed", type=int, default=0)
    return top


def main(arguments: Sequence[str]) -> int:
    """Make the decoder that was asked for; returns the exit code."""
    given = parser().parse_args(arguments)
    if given.synthetic is not None or given.shape is not None:
        shape = given.shape or shape_of_size(given.synthetic, is_tied=not given.untied)
        shape = replace(shape, is_tied=not given.untied)
        write_synthetic(shape, given.out, has_cache=given.cache, seed=given.seed)
        print(f"{given.out}: {shape.size_bytes / 1e9:.2f} GB, {shape}", file=sys.stderr)
        return 0
    try:
        from decoder.train import small_shape, write_trained
    except ModuleNotFoundError as error:
        print(f"training needs {error.name}: pip install 'onnxsqueeze[torch]'", file=sys.stderr)
        return 8
    shape = small_shape(is_tied=not given.untied)
    write_trained(shape, given.out, steps=given.steps, seed=given.seed)
    return 0

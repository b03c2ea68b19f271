"""Folders of samples: one ``.npz`` or ``.npy`` each, ONNX ``test_data_set_*``, or images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnxsqueeze.data.archive import load_npz, npy_array, npz_arrays
from onnxsqueeze.data.decoders import asked_for
from onnxsqueeze.data.images import SUFFIXES, ImageSettings, image_reader
from onnxsqueeze.data.reader import LABEL_NAMES, Array, Feed, Header, Reader, header
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec
from onnxsqueeze.graph.tensor_files import read_tensor_file


def folder_reader(
    folder: Path, specs: Sequence[InputSpec], images: ImageSettings | None
) -> Reader:
    """Return a reader of the samples in a folder, in the order of their names.

    Raises:
        DataError: If the folder holds no samples, or samples of several kinds.
    """
    sets = _test_sets(folder)
    if sets:
        return _test_set_reader(folder, sets, specs)
    visible = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    kinds = {
        ".npz": [path for path in visible if path.suffix == ".npz"],
        ".npy": [path for path in visible if path.suffix == ".npy"],
        "image": [path for path in sorted(folder.rglob("*")) if _is_image(path, folder)],
    }
    found = [f"{len(files)} {kind} files" for kind, files in kinds.items() if files]
    if len(found) != 1:
        raise DataError(
            f"{folder} holds {' and '.join(found) or 'no samples'}, one kind of sample is needed\n"
            f"  It has {len(visible)} entries.\n"
            "  One sample is an .npz with an array per input, an .npy for a model with one input, "
            "a test_data_set_N folder, or an image."
        )
    if kinds[".npz"]:
        return _npz_reader(folder, kinds[".npz"], specs)
    if kinds[".npy"]:
        return _npy_reader(folder, kinds[".npy"], asked_for((), specs))
    return image_reader(folder, kinds["image"], specs, images)


def _is_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def _npz_reader(folder: Path, files: Sequence[Path], specs: Sequence[InputSpec]) -> Reader:
    inputs = {spec.name for spec in specs}
    headers: dict[int, Header] = {}
    label_names: set[str | None] = set()
    for index, file in enumerate(files):
        found = {
            name: (array.dtype, array.shape)
            for name, array in npz_arrays(file, unpack=False).items()
        }
        named = [name for name in found if name in LABEL_NAMES and name not in inputs]
        label_names.add(named[0] if named else None)
        headers[index] = {name: entry for name, entry in found.items() if name not in named[:1]}
    labels = _npz_labels(folder, files, label_names)

    def read(index: int) -> Feed:
        arrays = load_npz(files[index])
        return {name: arrays[name] for name in headers[index]}

    return Reader(
        source=f"{len(files)} .npz files in {folder}",
        count=len(files),
        read=read,
        place=lambda index: str(files[index]),
        headers=headers,
        labels=labels,
    )


def _npz_labels(folder: Path, files: Sequence[Path], names: set[str | None]) -> Array | None:
    if names == {None}:
        return None
    if len(names) > 1:
        listed = ", ".join(sorted("no label" if name is None else repr(name) for name in names))
        raise DataError(
            f"the samples of {folder} are not labelled alike: {listed}\n"
            "  Give each file a label of the same name, or none."
        )
    name = str(next(iter(names)))
    values = [load_npz(file)[name] for file in files]
    sizes = {value.size for value in values}
    if sizes != {1}:
        raise DataError(
            f"{name!r} has {max(sizes)} entries in a sample of {folder}, one is needed\n"
            "  Each file is one sample; its label is one number or one text."
        )
    return np.concatenate([value.reshape(1) for value in values])


def _npy_reader(folder: Path, files: Sequence[Path], specs: Sequence[InputSpec]) -> Reader:
    if len(specs) != 1:
        raise DataError(
            f"{folder} holds .npy files, which feed one input, and the model has {len(specs)}\n"
            f"  The model needs: {'; '.join(map(str, specs))}.\n"
            "  Save the samples as .npz files with one array per input."
        )
    name = specs[0].name
    arrays = [npy_array(file) for file in files]
    return Reader(
        source=f"{len(files)} .npy files in {folder}",
        count=len(files),
        read=lambda index: {name: arrays[index].whole()},
        place=lambda index: str(files[index]),
        headers={i: {name: (array.dtype, array.shape)} for i, array in enumerate(arrays)},
    )


def _number(path: Path) -> int:
    digits = re.search(r"(\d+)$", path.stem)
    return int(digits[1]) if digits else -1


def _test_sets(folder: Path) -> list[Path]:
    if list(folder.glob("input_*.pb")):
        return [folder]
    return sorted((path for path in folder.glob("test_data_set_*") if path.is_dir()), key=_number)


def _test_set_reader(folder: Path, sets: Sequence[Path], specs: Sequence[InputSpec]) -> Reader:
    def read(index: int) -> Feed:
        files = sorted(sets[index].glob("input_*.pb"), key=_number)
        if [_number(file) for file in files] != list(range(len(specs))):
            raise DataError(
                f"{sets[index]} holds {len(files)} inputs "
                f"({', '.join(file.name for file in files) or 'none'}), and the model needs "
                f"input_0.pb to input_{len(specs) - 1}.pb\n"
                f"  The model needs: {'; '.join(map(str, specs))}."
            )
        return {spec.name: read_tensor_file(file) for spec, file in zip(specs, files, strict=True)}

    return Reader(
        source=f"{len(sets)} test data set(s) in {folder}",
        count=len(sets),
        read=read,
        place=lambda index: str(sets[index]),
        headers={index: header(read(index)) for index in range(len(sets))},
    )

"""A folder of images as samples: decoded, resized and normalised when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from onnxsqueeze.config import Settings
from onnxsqueeze.data.reader import Array, Reader
from onnxsqueeze.errors import DataError, DependencyError
from onnxsqueeze.graph.signature import InputSpec

if TYPE_CHECKING:
    from types import ModuleType

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_PLANES = {"RGB": 3, "BGR": 3, "L": 1}


class ImageSettings(Settings):
    """How an image becomes an array: ``(pixel · scale − mean) / std``, resized before.

    The image is stretched to ``size`` with bilinear interpolation, without cropping; a rotation
    noted in a photo's metadata is not applied.

    Attributes:
        size: Height and width in pixels.
        layout: Order of the axes; the batch axis has size 1.
        mean: Subtracted after scaling; one number, or one per channel, ordered like ``channels``.
        std: Divided by; like ``mean``.
        channels: Order of the channels, or ``L`` for grey.
        scale: What pixels from 0 to 255 are multiplied with first.
    """

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Annotated[float, Field(gt=0.0)], ...] = (1.0,)
    channels: Literal["RGB", "BGR", "L"] = "RGB"
    scale: Annotated[float, Field(gt=0.0)] = 1 / 255

    @model_validator(mode="after")
    def _one_per_channel(self) -> ImageSettings:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, _PLANES[self.channels]):
                raise ValueError(
                    f"{name} has {len(values)} values, and {self.channels} needs 1 or "
                    f"{_PLANES[self.channels]}"
                )
        return self

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of one sample."""
        planes = _PLANES[self.channels]
        if self.layout == "NCHW":
            return (1, planes, *self.size)
        return (1, *self.size, planes)


def image_reader(
    folder: Path, files: Sequence[Path], specs: Sequence[InputSpec], settings: ImageSettings | None
) -> Reader:
    """Return a reader of images; those in sub-folders are labelled by them.

    A label is the sub-folder's name where all names are whole numbers, else its place in the
    sorted names.

    Raises:
        DataError: If there are no settings, the model has several inputs, or only some images lie
            in sub-folders.
        DependencyError: If Pillow is not installed.
    """
    if settings is None:
        raise DataError(
            f"{folder} holds {len(files)} images, and nothing says how they become arrays\n"
            f"  The model needs: {'; '.join(map(str, specs))}.\n"
            "  Give ImageSettings as in training: size, layout, mean, std, channels, scale."
        )
    if len(specs) != 1:
        raise DataError(
            f"{folder} holds images, which feed one input, and the model has {len(specs)}\n"
            f"  The model needs: {'; '.join(map(str, specs))}.\n"
            "  Save the samples as .npz files with one array per input."
        )
    pillow = _pillow()
    spec = specs[0]
    dtype = _sample_dtype(spec, settings)
    labels, notes = _labels(folder, files)
    return Reader(
        source=f"{len(files)} images in {folder}",
        count=len(files),
        read=lambda index: {spec.name: image_array(files[index], settings, dtype, pillow)},
        place=lambda index: str(files[index]),
        headers={0: {spec.name: (dtype, settings.shape)}},
        labels=labels,
        notes=notes,
        reading=f"images {spec.name} {dtype.name} {settings.model_dump_json()}",
        digest=lambda index: hashlib.sha256(files[index].read_bytes()).digest(),
    )


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise DependencyError(
            "images need the package Pillow, which is not installed\n"
            "  Install it: pip install onnxsqueeze[images]"
        ) from error
    module: ModuleType = Image
    return module


def _sample_dtype(spec: InputSpec, settings: ImageSettings) -> np.dtype[Any]:
    is_plain = settings.scale == 1.0 and not any(settings.mean) and set(settings.std) == {1.0}
    if spec.dtype == np.uint8 and not is_plain:
        raise DataError(
            f"input {spec.name!r} is uint8, and scale {settings.scale:.4g}, mean {settings.mean}, "
            f"std {settings.std} make fractions of pixels\n"
            "  Set scale=1, mean=(0,), std=(1,): the model normalises its input itself."
        )
    return spec.dtype if spec.dtype in (np.uint8, np.float16) else np.dtype(np.float32)


def image_array(
    path: Path, settings: ImageSettings, dtype: np.dtype[Any], pillow: ModuleType
) -> Array:
    """Return the image as an array of shape ``settings.shape``.

    Raises:
        DataError: If the file cannot be decoded.
    """
    height, width = settings.size
    mode = "L" if settings.channels == "L" else "RGB"
    try:
        with pillow.open(path) as image:
            resized = image.convert(mode).resize((width, height), pillow.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise DataError(
            f"{path} has {path.stat().st_size if path.exists() else 0} bytes that are no readable "
            f"image: {error}\n"
            "  Remove it from the folder or repair it."
        ) from error
    pixels = np.asarray(resized).reshape(height, width, -1)
    if settings.channels == "BGR":
        pixels = pixels[..., ::-1]
    if dtype != np.uint8:
        mean = np.asarray(settings.mean, np.float32)
        std = np.asarray(settings.std, np.float32)
        pixels = (pixels.astype(np.float32) * np.float32(settings.scale) - mean) / std
    if settings.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[np.newaxis], dtype=dtype)


def _labels(folder: Path, files: Sequence[Path]) -> tuple[Array | None, tuple[str, ...]]:
    parts = [path.relative_to(folder).parts for path in files]
    if all(len(part) == 1 for part in parts):
        return None, ()
    if any(len(part) == 1 for part in parts):
        alone = next(part[0] for part in parts if len(part) == 1)
        raise DataError(
            f"{folder} holds images both in sub-folders and beside them, for example {alone}\n"
            "  Sub-folders are classes: put all images into them, or none."
        )
    names, index = np.unique([part[0] for part in parts], return_inverse=True)
    if np.all(np.char.isdecimal(names)):
        return names[index].astype(np.int64), ("labels are the names of the sub-folders",)
    listed = ", ".join(f"{place} {name}" for place, name in enumerate(names[:5]))
    more = ", ..." if len(names) > 5 else ""
    return index.astype(np.int64), (f"labels are sub-folders in sorted order: {listed}{more}",)

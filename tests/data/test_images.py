from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from onnxsqueeze.data import ImageSettings, open_samples
from onnxsqueeze.errors import DataError, DependencyError
from onnxsqueeze.graph.signature import InputSpec

CHW = (InputSpec("x", np.dtype("float32"), ("N", 3, 2, 4)),)
PIXELS = np.random.default_rng(1).integers(0, 256, (2, 4, 3), dtype=np.uint8)
SETTINGS = ImageSettings(size=(2, 4))


def write(path: Path, pixels: np.ndarray = PIXELS) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def refused(source: Path, specs: tuple[InputSpec, ...], settings: ImageSettings | None) -> str:
    with pytest.raises(DataError) as caught:
        list(open_samples(source, specs, images=settings))
    return str(caught.value)


def test_pixels_are_scaled_normalised_and_laid_out(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    settings = ImageSettings(size=(2, 4), mean=(0.5, 0.25, 0.0), std=(2.0, 4.0, 0.5))

    (sample,) = open_samples(tmp_path, CHW, images=settings)

    exact = (PIXELS / 255 - [0.5, 0.25, 0.0]) / [2.0, 4.0, 0.5]
    # Three float32 operations on values under 2: three roundings of half a unit in the last place.
    np.testing.assert_allclose(sample["x"], exact.transpose(2, 0, 1)[None], atol=4e-7, rtol=0)
    assert sample["x"].shape == (1, 3, 2, 4)
    assert sample["x"].flags.c_contiguous


def test_channels_last_bgr_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.bmp")
    specs = (InputSpec("x", np.dtype("uint8"), ("N", 2, 4, 3)),)
    settings = ImageSettings(size=(2, 4), layout="NHWC", channels="BGR", scale=1)

    (sample,) = open_samples(tmp_path, specs, images=settings)

    np.testing.assert_array_equal(sample["x"][0], PIXELS[..., ::-1])


def test_grey_and_resized(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.full((20, 30), 51, np.uint8))
    specs = (InputSpec("x", np.dtype("float32"), (1, 1, 2, 4)),)

    (sample,) = open_samples(tmp_path, specs, images=ImageSettings(size=(2, 4), channels="L"))

    np.testing.assert_array_equal(
        sample["x"], np.full((1, 1, 2, 4), np.float32(51) * np.float32(1 / 255))
    )


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for name in ("dog/a.png", "cat/b.PNG", "cat/a.png"):
        write(tmp_path / name)

    samples = open_samples(tmp_path, CHW, images=SETTINGS)

    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 0, 1]
    assert samples.notes == ("labels are sub-folders in sorted order: 0 cat, 1 dog",)


def test_sub_folders_with_numbers_are_those_classes(tmp_path: Path) -> None:
    for name in ("10/a.png", "9/a.png"):
        write(tmp_path / name)

    samples = open_samples(tmp_path, CHW, images=SETTINGS)

    assert samples.labels is not None
    assert samples.labels.tolist() == [10, 9]


def test_fingerprint_depends_on_files_and_settings(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    first = open_samples(tmp_path, CHW, images=SETTINGS).fingerprint
    assert open_samples(tmp_path, CHW, images=SETTINGS).fingerprint == first

    other = ImageSettings(size=(2, 4), channels="BGR")
    assert open_samples(tmp_path, CHW, images=other).fingerprint != first
    write(tmp_path / "a.png", 255 - PIXELS)
    assert open_samples(tmp_path, CHW, images=SETTINGS).fingerprint != first


def test_refusals(tmp_path: Path) -> None:
    write(tmp_path / "a.png")

    assert "holds 1 images, and nothing says how they become arrays" in refused(
        tmp_path, CHW, None
    )
    assert refused(tmp_path, CHW, ImageSettings(size=(2, 5))).startswith(
        "input 'x' has size 5 on axis 3, shape [1, 3, 2, 5], and the model needs 4\n"
    )
    assert "which feed one input, and the model has 2" in refused(tmp_path, CHW * 2, SETTINGS)
    uint8 = (InputSpec("x", np.dtype("uint8"), ("N", 3, 2, 4)),)
    assert refused(tmp_path, uint8, SETTINGS).startswith("input 'x' is uint8, and scale 0.003922,")
    write(tmp_path / "sub" / "b.png")
    assert "both in sub-folders and beside them, for example a.png" in refused(
        tmp_path, CHW, SETTINGS
    )


def test_unreadable_image_is_refused_when_read(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])

    samples = open_samples(tmp_path, CHW, images=SETTINGS)

    assert samples[0]["x"].shape == (1, 3, 2, 4)
    with pytest.raises(DataError, match=r"b\.png has 40 bytes that are no readable image: "):
        samples[1]


def test_settings_without_images_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 3, 2, 4), np.float32))

    assert refused(tmp_path, CHW, SETTINGS).startswith(
        "image settings were given, and 1 .npy file"
    )


def test_missing_pillow_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(DependencyError, match=r"pip install onnxsqueeze\[images\]"):
        open_samples(tmp_path, CHW, images=SETTINGS)


def test_settings_check_themselves() -> None:
    with pytest.raises(ValidationError, match="mean has 2 values, and RGB needs 1 or 3"):
        ImageSettings(size=(2, 4), mean=(0.0, 1.0))
    with pytest.raises(ValidationError):
        ImageSettings(size=(0, 4))
    with pytest.raises(ValidationError):
        ImageSettings(size=(2, 4), std=(0.0,))

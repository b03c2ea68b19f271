"""Make the models of ``models/`` again: data, training, export, all with fixed seeds.

usage: python tools/make_models.py [--out models] [digits_cnn] [digits_mlp]

Needs the extra ``models`` (torch, scikit-learn). About two minutes on one core. On another
processor or another version of torch the weights differ in their last bits, and so may the numbers
of models/README.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

SEED = 0
SIDE = 28
TRAINING_ROWS = 1000
CALIBRATION_ROWS = 512
"""The first of the training rows; the evaluation rows are those that no training saw."""

Floats = npt.NDArray[np.float32]


class Digits(NamedTuple):
    """Images of shape (N, 1, 28, 28) in 0..1, labels of shape (N,); evaluation rows come last."""

    images: Floats
    labels: npt.NDArray[np.int64]


def enlarge(images: Floats, side: int) -> Floats:
    """Return images of shape (N, H, H) enlarged bilinearly to (N, side, side).

    The position of a new pixel's centre, ``(k + 1/2) · H / side - 1/2``, is clamped to the old
    centres; the weights of its two neighbours form row k of a matrix ``R`` of shape (side, H), and
    the result is ``R · image · Rᵀ``.
    """
    old = images.shape[1]
    position = np.clip((np.arange(side) + 0.5) * old / side - 0.5, 0, old - 1)
    low = np.minimum(position.astype(np.int64), old - 2)
    resize = np.zeros((side, old), np.float32)
    resize[np.arange(side), low] = 1 - (position - low)
    resize[np.arange(side), low + 1] = position - low
    enlarged: Floats = np.einsum("ai,nij,bj->nab", resize, images, resize, optimize=True)
    return enlarged


def digits() -> Digits:
    """Return scikit-learn's 1,797 digits, shuffled, enlarged, and rounded to steps of 1/255."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(images))
    large = enlarge(images.reshape(-1, 8, 8).astype(np.float32) / 16, SIDE)[order]
    steps = np.rint(large * 255).astype(np.uint8)
    return Digits((steps.astype(np.float32) / 255)[:, None], labels[order].astype(np.int64))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where shapes change."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def cnn() -> nn.Module:
    """Return a residual network of 3 blocks, 297,000 weights; it halves the image twice."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, 1, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        Residual(32, 32),
        Residual(32, 64, 2),
        Residual(64, 128, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def mlp() -> nn.Module:
    """Return a perceptron 784-128-10."""
    return nn.Sequential(nn.Linear(SIDE * SIDE, 128), nn.ReLU(), nn.Linear(128, 10))


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Fit ``network`` in place: AdamW, one-cycle learning rate, batches of 50."""
    batch = 50
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, epochs=epochs, steps_per_epoch=len(images) // batch
    )
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(batch):
            loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def export(network: nn.Module, example: Tensor, path: Path) -> None:
    """Write ``network`` as ONNX, opset 17, batch axis free, BatchNormalization not folded."""
    torch.onnx.export(
        network,
        (example,),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamo=False,
    )


def make(
    build: Callable[[], nn.Module], epochs: int, sample_shape: tuple[int, ...], out: Path
) -> None:
    """Train one network and write its folder: model.onnx, calib.npz, eval.npz."""
    torch.manual_seed(SEED)
    data = digits()
    images = data.images.reshape(-1, *sample_shape)
    network = build()
    train(
        network,
        torch.from_numpy(images[:TRAINING_ROWS]),
        torch.from_numpy(data.labels[:TRAINING_ROWS]),
        epochs,
    )
    out.mkdir(parents=True, exist_ok=True)
    export(network, torch.from_numpy(images[:1]), out / "model.onnx")
    samples: dict[str, Any] = {"image": images[:CALIBRATION_ROWS, None]}
    np.savez_compressed(out / "calib.npz", **samples)
    held_out = {"image": images[TRAINING_ROWS:, None], "labels": data.labels[TRAINING_ROWS:]}
    np.savez_compressed(out / "eval.npz", **held_out)
    with torch.no_grad():
        found = network(torch.from_numpy(images[TRAINING_ROWS:])).argmax(1).numpy()
    accuracy = float((found == held_out["labels"]).mean())
    print(f"{out}: accuracy {accuracy:.4f}, {(out / 'model.onnx').stat().st_size} bytes")


MAKERS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...]]] = {
    "digits_cnn": (cnn, 12, (1, SIDE, SIDE)),
    "digits_mlp": (mlp, 30, (SIDE * SIDE,)),
}


def main() -> None:
    here = Path(__file__).resolve().parents[1] / "models"
    parser = argparse.ArgumentParser(description="Make the models of models/ again.")
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(MAKERS)} (default: all)")
    parser.add_argument("--out", type=Path, default=here)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MAKERS)
    if unknown:
        parser.error(f"no model named {', '.join(sorted(unknown))}; there are {', '.join(MAKERS)}")
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)  # sums in the same order on every number of cores
    for name in arguments.names or MAKERS:
        build, epochs, shape = MAKERS[name]
        make(build, epochs, shape, arguments.out / name)


if __name__ == "__main__":
    main()

"""Train a small decoder of bytes, with torch, from fixed seeds; the weights are the graph's own.

A step takes about half a second of one core (AMD EPYC, AVX-512). One thread is used, so that the
sums do not depend on the number of cores; on another processor or another version of torch the
weights differ in their last bits.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from decoder.graph import EPSILON, build, rotations
from decoder.shape import Shape
from decoder.steps import write_steps
from decoder.words import BYTES, Ids, corpus, pieces

LENGTH = 128
BATCH = 8
WARM_UP = 40
LEARNING_RATE = 3e-3
BETAS = (0.9, 0.98)
DECAY = 0.1
LEAST = 0.05
"""Last learning rate, as a part of the largest."""
MOST_NORM = 1.0
CALIBRATION_SAMPLES = 128
EVALUATION_SAMPLES = 128
TRAINING_PIECES = 100_000
SAID_EVERY = 50

Weights = dict[str, Tensor]


def small_shape(*, is_tied: bool) -> Shape:
    """Return the shape of the small decoder: about 3 million weights."""
    return Shape(4, 256, 640, 4, BYTES, 1024, is_tied)


def write_trained(shape: Shape, folder: Path, *, steps: int, seed: int) -> None:
    """Train; write model.onnx, calib.npz, eval.npz; with a cache cached/model.onnx, steps.npz."""
    cached = folder / "cached"
    cached.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    text = corpus()
    weights = trained(shape, pieces(text.training, TRAINING_PIECES, LENGTH, seed), steps, seed)
    arrays = {name: weight.detach().numpy() for name, weight in weights.items()}
    for target, has_cache in ((folder, False), (cached, True)):
        tensors = [ir.tensor(array, name=name) for name, array in arrays.items()]
        ir.save(build(shape, tensors, has_cache=has_cache), target / "model.onnx")
    calibration = pieces(text.calibration, CALIBRATION_SAMPLES, LENGTH, seed)
    evaluation = pieces(text.evaluation, EVALUATION_SAMPLES, LENGTH, seed)
    np.savez(folder / "calib.npz", input_ids=calibration)
    np.savez(folder / "eval.npz", input_ids=evaluation)
    write_steps(shape, cached / "model.onnx", calibration, cached / "steps.npz")
    print(f"perplexity of a byte of eval.npz: {perplexity(shape, weights, evaluation):.3f}")


def trained(shape: Shape, ids: Ids, steps: int, seed: int) -> Weights:
    """Return the weights after ``steps`` of AdamW on rows of ``ids``."""
    weights = _first(shape, seed)
    products = [weight for weight in weights.values() if weight.ndim == 2]
    gains = [weight for weight in weights.values() if weight.ndim == 1]
    groups = [{"params": products, "weight_decay": DECAY}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    rng = np.random.default_rng(seed)
    for step in range(steps):
        rows = torch.from_numpy(ids[rng.integers(0, len(ids), BATCH)])
        loss = _loss(shape, weights, rows)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights.values()), MOST_NORM)
        optimizer.step()
        schedule.step()
        if step % SAID_EVERY == 0 or step == steps - 1:
            print(f"step {step} of {steps}: {loss.item():.3f} nats", flush=True)
    return weights


def perplexity(shape: Shape, weights: Weights, ids: Ids) -> float:
    """Return the perplexity of ``ids``, each row by itself."""
    with torch.no_grad():
        return float(torch.exp(_loss(shape, weights, torch.from_numpy(ids))))


def logits(shape: Shape, weights: Weights, ids: Tensor) -> Tensor:
    """Return the scores of the next token, (rows, length, vocabulary), as the graph gives them."""
    cosine, sine = (torch.from_numpy(table)[: ids.shape[1]] for table in rotations(shape))
    stream = weights["table"][ids]
    for layer in range(shape.layers):
        own = {name: weights[f"layer{layer}_{name}"] for name in _PARTS}
        stream = stream + _attended(_norm(stream, own["attention_gain"]), own, cosine, sine, shape)
        fed = _norm(stream, own["feed_gain"])
        stream = stream + (functional.silu(fed @ own["gate"]) * (fed @ own["up"])) @ own["down"]
    head = weights["table"].T if shape.is_tied else weights["head"]
    return _norm(stream, weights["last_gain"]) @ head


_PARTS = (
    "attention_gain",
    "query",
    "key",
    "value",
    "mixed",
    "feed_gain",
    "gate",
    "up",
    "down",
)


def _attended(x: Tensor, own: Weights, cosine: Tensor, sine: Tensor, shape: Shape) -> Tensor:
    rows, length, _ = x.shape

    def heads(part: str) -> Tensor:
        return (x @ own[part]).view(rows, length, shape.heads, shape.head_dim).transpose(1, 2)

    def placed(y: Tensor) -> Tensor:
        low, high = y.chunk(2, dim=-1)
        return y * cosine + torch.cat([-high, low], dim=-1) * sine

    read = functional.scaled_dot_product_attention(
        placed(heads("query")), placed(heads("key")), heads("value"), is_causal=True
    )
    return read.transpose(1, 2).reshape(rows, length, shape.dim) @ own["mixed"]


def _norm(x: Tensor, gain: Tensor) -> Tensor:
    return gain * (x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + EPSILON))


def _loss(shape: Shape, weights: Weights, ids: Tensor) -> Tensor:
    found = logits(shape, weights, ids[:, :-1])
    return functional.cross_entropy(found.flatten(0, 1), ids[:, 1:].flatten())


def _first(shape: Shape, seed: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for name, (kind, dims) in shape.weights().items():
        if kind == "gain":
            weights[name] = torch.ones(dims)
        else:
            scale = (shape.dim if kind == "table" else dims[0]) ** -0.5
            scale /= math.sqrt(2 * shape.layers) if kind == "outer" else 1.0
            weights[name] = torch.randn(dims, generator=generator) * scale
        weights[name].requires_grad_()
    return weights


def _rate(step: int, steps: int) -> float:
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, steps - WARM_UP)
    return LEAST + (1 - LEAST) * (1 + math.cos(math.pi * done)) / 2

"""Export all-MiniLM-L6-v2 with mean pooling, and tokenize the texts for it.

usage: export_minilm.py MODEL_FOLDER TEXTS.json OUT. Runs in a virtual environment of its own with
torch and transformers; writes OUT/{model.onnx, calib.npz, eval.npz}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

NAMES = ("input_ids", "attention_mask", "token_type_ids")
TOKENS = 64


class Embedding(torch.nn.Module):
    """The mean of the last hidden states of real tokens, at length 1."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, *feed: torch.Tensor) -> torch.Tensor:
        named = dict(zip(NAMES, feed, strict=True))
        hidden = self.encoder(**named).last_hidden_state
        mask = named["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=1)


def main(model: str, texts: str, out: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    encoder = AutoModel.from_pretrained(model, attn_implementation="eager").eval()

    def encoded(lines: list[str]) -> dict[str, Any]:
        fixed = {"padding": "max_length", "truncation": True, "max_length": TOKENS}
        found = tokenizer(lines, return_tensors="np", **fixed)
        return {name: found[name].astype(np.int64)[:, None] for name in NAMES}

    example = encoded(["a test"])
    axes = {name: {0: "batch", 1: "seq"} for name in NAMES}
    torch.onnx.export(
        Embedding(encoder),
        tuple(torch.from_numpy(example[name][0]) for name in NAMES),
        str(Path(out) / "model.onnx"),
        input_names=list(NAMES),
        output_names=["embedding"],
        dynamic_axes={**axes, "embedding": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    for part, lines in json.loads(Path(texts).read_text("utf-8")).items():
        np.savez(Path(out) / f"{part}.npz", **encoded(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])

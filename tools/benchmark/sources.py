"""What the cases are made of: words, sentences and fonts of Debian packages, files of wheels."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

from benchmark.cases import CaseError

WORDNET = Path("/usr/share/wordnet")
FONTS = Path("/usr/share/fonts/truetype")
DRAWN_FONTS = ("symbol", "dingbat", "math")
"""Words in the names of fonts whose letters are pictures."""


def wordnet_words() -> list[str]:
    """Return WordNet's plain nouns of 4 to 14 letters, shuffled."""
    lines = wordnet_lines("index.noun")
    words = {line.split()[0] for line in lines if not line.startswith(" ")}
    chosen = sorted(word for word in words if word.isalpha() and 4 <= len(word) <= 14)
    random.Random(1).shuffle(chosen)
    return chosen


def wordnet_pairs(count: int) -> list[tuple[str, str]]:
    """Return (example sentence, "lemma: definition") of WordNet entries, shuffled."""
    pairs = []
    for part in ("noun", "verb", "adj"):
        for line in wordnet_lines(f"data.{part}"):
            gloss = line.partition("|")[2].strip()
            definition, quote, rest = gloss.partition('"')
            example = rest.partition('"')[0]
            if line.startswith("  ") or not quote or len(example) <= 25 or len(definition) <= 20:
                continue
            lemma = line.split()[4].replace("_", " ")
            pairs.append((example, f"{lemma}: {definition.strip(' ;')}"))
    random.Random(2).shuffle(pairs)
    return pairs[:count]


def wordnet_lines(name: str) -> list[str]:
    """Return the lines of one of WordNet's files."""
    path = WORDNET / name
    if not path.exists():
        raise CaseError(f"needs {path}: apt-get install wordnet-base")
    return path.read_text("utf-8", "ignore").splitlines()


def fonts() -> list[str]:
    """Return the TrueType fonts of this machine that draw letters."""
    paths = sorted(FONTS.rglob("*.ttf"))
    found = [str(path) for path in paths if not any(w in path.name.lower() for w in DRAWN_FONTS)]
    if not found:
        packages = "fonts-liberation fonts-freefont-ttf fonts-dejavu-core"
        raise CaseError(f"needs fonts under {FONTS}: apt-get install {packages}")
    return found


def pillow() -> Any:
    """Return the modules that draw text."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ModuleNotFoundError as error:
        raise CaseError("needs pillow: pip install 'onnxsqueeze[images]'") from error
    return Image, ImageDraw, ImageFont


def in_wheel(wheel: Path, name: str) -> Path:
    """Return the path of a file or folder of an unpacked wheel."""
    path = wheel / name
    if not path.exists():
        raise CaseError(f"{wheel.name} has no {name}")
    return path


def checked(command: list[str]) -> None:
    """Run a command, which must end well."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CaseError(f"needs the program {command[0]}: it is not installed") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise CaseError(f"{command[0]} ended with exit code {done.returncode}\n  {lines[-1]}")

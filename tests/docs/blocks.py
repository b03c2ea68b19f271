"""Code in the pages: what language, what it needs, where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

PAGES = Path(__file__).resolve().parents[2] / "tools" / "docs" / "pages"


@dataclass(frozen=True)
class Block:
    """A block of code; ``needs`` are the modules that it cannot run without."""

    page: str
    line: int
    language: str
    text: str
    needs: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    needs: tuple[str, ...] = ()
    for token in MarkdownIt().parse(page.read_text("utf-8")):
        said = re.fullmatch(r"<!-- needs: (.*) -->\s*", token.content)
        if token.type == "html_block" and said:
            needs = tuple(said[1].split(", "))
        elif token.type == "fence":
            assert token.map is not None
            yield Block(page.name, token.map[0] + 1, token.info, token.content, needs)
            needs = ()


def all_blocks() -> list[Block]:
    return [block for page in sorted(PAGES.glob("*.md")) for block in blocks(page)]

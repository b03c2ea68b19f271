"""What mkdocs calls while it builds: pages that are generated come to those that are written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).resolve().parent))

import generated


def on_page_markdown(markdown: str, **_: Any) -> str:
    return markdown.replace(generated.FIGURES_HERE, generated.figures())


def on_files(files: Files, config: Any) -> Files:
    for name, page in generated.PAGES.items():
        files.append(File.generated(config, name, content=page()))
    return files

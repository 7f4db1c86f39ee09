"""Reads the project's Markdown documents for the tests that check what they say."""

from __future__ import annotations

import re
from pathlib import Path

from squares import REPOSITORY

PAGES = tuple(
    str(path.relative_to(REPOSITORY))
    for pattern in ("*.md", ".github/*.md", "ops/README.md", "tests/README.md", "docs/*.md")
    for path in sorted(REPOSITORY.glob(pattern))
)

_FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4,}\S.*\n?)+", re.MULTILINE)


def read_page(page: str) -> str:
    """Return the text of a document, named relative to the repository."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def code_blocks(page: str, language: str) -> list:
    """Return the texts of a document's fenced code blocks of one language ("yaml", "sh", ...)."""
    return [text for name, text in _FENCED.findall(read_page(page)) if name == language]


def prose(page: str) -> str:
    """Return a document without its code blocks."""
    return _INDENTED.sub("", _FENCED.sub("", read_page(page)))


def commands(page: str) -> list:
    """Return the command lines of a document's code blocks, continued lines joined."""
    text = read_page(page)
    blocks = code_blocks(page, "sh") + _INDENTED.findall(_FENCED.sub("", text))
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip()]


def anchors(page: str) -> set:
    """Return the anchors of a document's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", read_page(page)), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def make_targets() -> set:
    """Return the targets of the Makefile."""
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^(\w+):", text, re.MULTILINE))


def links(page: str) -> list:
    """Return the targets of a document's links and pictures that are no web addresses."""
    targets = re.findall(r"\]\(([^)\s]+)\)", _FENCED.sub("", read_page(page)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def resolve(page: str, target: str) -> Path:
    """Return the file that a link of a document points to."""
    return (REPOSITORY / page).parent / target.partition("#")[0]

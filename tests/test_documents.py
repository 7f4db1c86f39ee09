"""What the documents name exists: links, files, keys, settings and error messages."""

from __future__ import annotations

import ast
import os
import re
from functools import lru_cache
from typing import Mapping

import documents
import pytest
import yaml
from squares import REPOSITORY

from detectron_ext import config as configuration
from detectron_ext.config.keys import KEYS, SECTIONS

_TROUBLESHOOTING = "docs/getting_started.md"
# Each section "Messages" of this page has a table like those of the troubleshooting.
_DATA = "docs/data.md"
_LINES = re.MULTILINE | re.DOTALL
# Folders whose files the documents name with a path.
_FOLDERS = "configs|tools|tests|docs|ops|detectron_ext|examples"


@pytest.mark.parametrize("page", documents.PAGES)
def test_links_lead_to_existing_places(page):
    for target in documents.links(page):
        name, _, anchor = target.partition("#")
        path = documents.resolve(page, target) if name else REPOSITORY / page
        linked = os.path.relpath(os.path.normpath(str(path)), str(REPOSITORY))
        assert path.exists(), f"{page} links to {target}"
        if anchor:
            assert anchor in documents.anchors(linked), f"{page} links to {target}"


@pytest.mark.parametrize("page", documents.PAGES)
def test_named_files_exist(page):
    text = documents.read_page(page)
    for name in re.findall(rf"`((?:{_FOLDERS})/[\w./*-]+)(?=[`\s])", text):
        pattern = name.rstrip("./").replace("...", "*").replace("SWEEP", "*")
        folders = (REPOSITORY, (REPOSITORY / page).parent)
        found = any(list(folder.glob(pattern)) for folder in folders)
        assert found, f"{page} names {name}"


@lru_cache(maxsize=None)
def _defaults() -> Mapping:
    return configuration.load(None)


# The page that is generated from the keys also names those that were renamed.
@pytest.mark.parametrize("page", sorted({*documents.PAGES} - {"docs/configuration.md"}))
def test_named_keys_exist(page):
    sections = "|".join(key for key, value in _defaults().items() if isinstance(value, Mapping))
    for name in re.findall(rf"`((?:{sections})(?:\.[A-Z0-9_]+)+)\b", documents.read_page(page)):
        assert name in KEYS or name in SECTIONS, f"{page} names {name}"


def _configurations() -> list:
    known = set(_defaults()) | {"_BASE_"}
    blocks = [
        (page, text) for page in documents.PAGES for text in documents.code_blocks(page, "yaml")
    ]
    # A configuration with IMPORTS needs the files that it imports: the examples have a test.
    blocks = [(page, text) for page, text in blocks if "IMPORTS" not in text]
    return [(page, text) for page, text in blocks if set(yaml.safe_load(text)) <= known]


def test_configurations_are_found():
    assert {page for page, _ in _configurations()} >= {"README.md", _TROUBLESHOOTING}


@pytest.mark.parametrize("page, text", _configurations())
def test_printed_configurations_load(page, text, tmp_path):
    path = tmp_path / "printed.yaml"
    path.write_text(text.replace("_BASE_: ", f"_BASE_: {REPOSITORY}/"), encoding="utf-8")
    configuration.load(str(path))


def test_the_readme_is_short():
    assert len(documents.read_page("README.md").splitlines()) <= 120


# Troubleshooting: the messages in the tables are those that the package prints.


@lru_cache(maxsize=None)
def _printed_texts() -> tuple:
    """Every text in the sources, with … for what is filled in."""
    sources = [*REPOSITORY.glob("detectron_ext/**/*.py"), *REPOSITORY.glob("tools/*")]
    texts = []
    for path in sources:
        if path.suffix == ".py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            texts += [_template(node) for node in ast.walk(tree)]
        elif path.suffix == ".sh":
            texts.append(path.read_text(encoding="utf-8"))
    return tuple(text for text in texts if text)


def _template(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        text = "".join(_template(part) or "…" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = re.sub(r"%[sd]", "…", node.value)
    elif isinstance(node, ast.Str):  # Python 3.7
        text = re.sub(r"%[sd]", "…", node.s)
    else:
        return ""
    return re.sub("…+", "…", text)


def _documented_messages() -> list:
    text = documents.read_page(_TROUBLESHOOTING).partition("\n## Troubleshooting\n")[2]
    for section in re.findall(r"^#+ Messages\n(.*?)(?=^#|\Z)", documents.read_page(_DATA), _LINES):
        text += section
    cells = re.findall(r"^\| `([^|]*)` (?:\(.*?\) )?\|", text, re.MULTILINE)
    # Python and the system print these, not the package.
    return [cell for cell in cells if not cell.startswith(("No module named", "Killed"))]


def test_messages_are_found():
    assert len(_documented_messages()) > 30


@pytest.mark.parametrize("message", _documented_messages())
def test_a_documented_message_is_printed(message):
    assert any(message in text for text in _printed_texts())

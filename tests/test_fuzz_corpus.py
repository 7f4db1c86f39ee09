"""Inputs that fuzzing found are read or refused: see fuzz_parsers.py."""

from __future__ import annotations

import contextlib

import pytest
from fuzz_parsers import readers
from squares import REPOSITORY

from detectron_ext.errors import UserError

_CORPUS = sorted((REPOSITORY / "tests" / "fuzz_corpus").glob("*/*"))


@pytest.mark.parametrize("path", _CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_fuzzing_found_is_read_or_refused(path):
    with contextlib.suppress(UserError):
        readers()[path.parent.name](str(path))

"""Inputs that fuzzing found are read or refused: see fuzz_parsers.py."""

from __future__ import annotations

import contextlib
import resource
import shutil

import pytest
from fuzz_parsers import readers
from squares import REPOSITORY

from detectron_ext.errors import UserError

_FOLDER = REPOSITORY / "tests" / "fuzz_corpus"
_CORPUS = sorted(_FOLDER.glob("*/*"))
_MOST_MEMORY = 1 << 20  # KB that reading a small file may add: what made a fuzzer end


@pytest.mark.parametrize("path", _CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_fuzzing_found_is_read_or_refused(path, tmp_path):
    copy = tmp_path / "input"  # some readers write the file anew
    shutil.copy(str(path), str(copy))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(UserError):
        readers()[path.parent.name](str(copy))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _MOST_MEMORY


def test_every_target_has_inputs_in_the_corpus():
    assert {path.parent.name for path in _CORPUS} == set(readers())

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

_MEMORY = "/dev/shm"


@pytest.fixture
def place():
    """Return a function: name -> path of a file that lives as long as the test.

    In memory where there is such a folder: models have hundreds of megabytes.
    """
    folder = _MEMORY if os.path.isdir(_MEMORY) else None
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        yield lambda name: str(Path(temporary) / name)

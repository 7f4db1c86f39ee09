"""What holds for all C++ sources."""

from __future__ import annotations

import collections
import re
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "ops"
_TYPE = re.compile(r"^(?:struct|class) (\w+)(?: final)?(?: : [^{;]*)? ?\{", re.MULTILINE)


def test_headers_give_a_type_one_definition():
    """All live in one namespace of one library, where a second one would be undefined behaviour."""
    headers = collections.defaultdict(set)
    for path in SOURCES.rglob("*.h"):
        for name in _TYPE.findall(path.read_text()):
            headers[name].add(path.name)
    assert len(headers) > 50
    assert not {name: found for name, found in headers.items() if len(found) > 1}

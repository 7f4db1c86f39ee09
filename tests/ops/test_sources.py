"""What holds for all C++ sources."""

from __future__ import annotations

import collections
import re
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "ops"
_TYPE = re.compile(r"^(?:struct|class) (\w+)(?: final)?(?: : [^{;]*)? ?\{", re.MULTILINE)


def test_a_type_has_one_definition_in_the_headers():
    """All headers share one namespace. A second definition would be undefined behaviour."""
    headers = collections.defaultdict(set)
    for path in SOURCES.rglob("*.h"):
        for name in _TYPE.findall(path.read_text()):
            headers[name].add(path.name)
    assert len(headers) > 50
    assert not {name: found for name, found in headers.items() if len(found) > 1}

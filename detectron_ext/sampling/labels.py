"""What a label says of a box; class numbers begin at 1."""

from __future__ import annotations

IGNORED = -1
BACKGROUND = 0

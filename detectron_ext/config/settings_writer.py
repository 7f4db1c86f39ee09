"""Writes `config.settings`, the typed view of a configuration, from the table of keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectron_ext.config.keys import ROOT
from detectron_ext.config.keys.key import Key, Section

_HEADER = '''"""The typed view of a configuration: which keys there are, and the type of each.

Written by tools/document_config.py from config/keys; do not edit. A parameter that is a
configuration has the type ``Settings``; one that is a section has that section's class. Then mypy
finds a mistyped key. This project's read-only Config fits these types, and so does upstream
Detectron's ``cfg``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

if TYPE_CHECKING:
    from typing import Protocol

    import numpy as np
else:  # Python 3.7 has no Protocol, and nothing needs it at run time
    Protocol = object


class Node(Protocol):
    """Any section: its keys can be read as items, too."""

    def __getitem__(self, key: str) -> Any: ...
'''


def settings_source() -> str:
    """Return the text of ``settings.py``."""
    sections = [*ROOT.sections(), ("", ROOT)]
    classes = [_class(name, section) for name, section in sections if not section.free_form]
    return "\n\n".join([_HEADER, *classes])


def _class(name: str, section: Section) -> str:
    described = f"The keys of {name}." if name else "A whole configuration."
    lines = [f"class {_class_name(name)}(Node, Protocol):", f'    """{described}"""']
    for key, entry in section.entries.items():
        inner = f"{name}.{key}".lstrip(".")
        kind = _section_type(inner, entry) if isinstance(entry, Section) else _key_type(entry)
        lines += ["", "    @property", f"    def {key}(self) -> {kind}: ..."]
    return "\n".join(lines) + "\n"


def _class_name(name: str) -> str:
    """Return the class of a section, for example LibraBfpSettings of LIBRA.BFP."""
    words = name.replace(".", "_").split("_") if name else []
    return "".join(word.capitalize() for word in words) + "Settings"


def _section_type(name: str, section: Section) -> str:
    return "Mapping[str, Mapping[str, str]]" if section.free_form else _class_name(name)


def _key_type(key: Key) -> str:
    default: Any = key.default
    if isinstance(default, np.ndarray):
        return "np.ndarray"
    if isinstance(default, (list, tuple)):
        element = next((rule.element_type for rule in key.rules if rule.element_type), "Any")
        return f"tuple[{element}, ...]" if isinstance(default, tuple) else f"list[{element}]"
    return type(default).__name__

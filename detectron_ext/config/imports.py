"""LIBRA.IMPORTS: modules that are imported because a user's configuration lists them.

They register parts (see `detectron_ext.registry`) that the configuration can then choose by name.
Only files and overrides that a user gives are read here. A configuration that is stored in weights,
checkpoints or results comes from elsewhere and must never run code, so nothing that reads those
calls this module.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from typing import Any, Iterable, Iterator

from detectron_ext.config.paths import expand_path
from detectron_ext.config.values import coerce, decode
from detectron_ext.errors import ConfigError
from detectron_ext.registry import undone_on_failure

KEY = "LIBRA.IMPORTS"
_SECTION, _NAME = KEY.split(".")


def import_parts(layers: Iterable[tuple[dict, str]] = (), overrides: Iterable[Any] = ()) -> list:
    """Import all modules that LIBRA.IMPORTS lists, in files and overrides, each once.

    All lists count: the list of a file does not replace that of the file that ``_BASE_`` names.

    Args:
        layers: pairs of a nested map of keys and the file that it was read from; a base comes
            before the files that build on it. A .py path in a map is relative to its file.
        overrides: flat list KEY, VALUE, KEY, VALUE, ...; a .py path in it is relative to the
            current folder.

    Returns:
        The entries of all lists as they were written, each once: the value of LIBRA.IMPORTS.

    Raises:
        ConfigError: a value has the wrong type, a file or module does not exist, or a module raised
            an error. The message is one line; it names the file and line that raised the error.
            What the module registered before it failed is removed again.
    """
    found: dict[str, None] = {}
    for entries, source, folder in _lists(layers, list(overrides)):
        for entry in entries:
            _import(entry, source, folder)
            found[entry] = None
    return list(found)


def _lists(layers: Iterable[tuple[dict, str]], overrides: list) -> Iterator[tuple[list, str, str]]:
    """Yield each list of entries, where it was given, and the folder its paths are relative to."""
    for given, source in layers:
        section = decode(given.get(_SECTION))
        if isinstance(section, dict) and _NAME in section:
            yield _checked(section[_NAME], source), source, os.path.dirname(source)
    source = "the overrides"
    for key, value in zip(overrides[0::2], overrides[1::2]):
        section = decode(value) if key == _SECTION else None
        if isinstance(section, dict) and _NAME in section:
            yield _checked(section[_NAME], source), source, ""
        elif key == KEY:
            yield _checked(value, source), source, ""


def _checked(value: Any, source: str) -> list:
    label = f"{KEY} in {source}"
    return [coerce(entry, "", label) for entry in coerce(value, [], label)]


def _import(entry: str, source: str, folder: str) -> None:
    where = f"{KEY} in {source}"
    if entry.endswith(".py"):
        path = os.path.realpath(os.path.join(folder, expand_path(entry)))
        if not os.path.isfile(path):
            raise ConfigError(f"{where}: there is no file {path}")
        import_it: Any = _import_file
        what = path
    elif all(part.isidentifier() for part in entry.split(".")):
        path = _module_file(entry, where, folder)
        import_it, what = importlib.import_module, entry
    else:
        raise ConfigError(
            f"{where}: {entry!r} is neither a module's name nor the path of a .py file"
        )
    try:
        with undone_on_failure():
            import_it(what)
    except (Exception, SystemExit) as error:  # a script may call sys.exit
        raise ConfigError(f"{where}: {_place(error, path)}: {_reason(error)}") from error


def _import_file(path: str) -> None:
    """Import a file, under a name that no module on Python's path has."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    stem = os.path.splitext(os.path.basename(path))[0]
    name = f"detectron_ext_import_{digest}_{stem}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except BaseException:
        del sys.modules[name]
        raise


def _module_file(name: str, where: str, folder: str) -> str:
    """Return the file of a module, "" if it is not known.

    Raises:
        ConfigError: there is no such module.
    """
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name and not name.startswith(error.name):
            return ""  # its package raised this: the error of the import tells more
        spec = None
    except Exception:
        return ""
    if spec is not None:
        return spec.origin or ""
    advice = "install it, put its folder into PYTHONPATH, or give the path of a .py file"
    if os.path.isfile(os.path.join(folder, f"{name}.py")):
        advice = f"write {name}.py for the file of that name"
    raise ConfigError(f"{where}: there is no module {name}: {advice}")


def _place(error: BaseException, path: str) -> str:
    """Return the file, and if known the line, of the user's code that raised an error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if os.path.realpath(frame.filename) == os.path.realpath(path)
    ]
    return f"{path}, line {lines[-1]}" if lines else path or "it cannot be imported"


def _reason(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return text if isinstance(error, ConfigError) else f"{type(error).__name__}: {text}"

"""YAML text to plain data and back, safely.

The loader extends PyYAML's safe loader in two ways:

- Keys stay as they are written. YAML 1.1 reads a bare ``ON`` as true, and LIBRA has keys of that
  name.
- The tags that ``yaml.dump`` writes into weights saved by upstream (tuples, AttrDict, numpy values)
  are read as plain data. Nothing is imported or called by name. Every other tag is an error.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Hashable

import numpy as np
import yaml

from detectron_ext.config.tree import Config
from detectron_ext.config.values import decode
from detectron_ext.errors import ConfigError
from detectron_ext.limits import MAX_YAML_CHARACTERS, MAX_YAML_VALUES

_LOG = logging.getLogger(__name__)

_PYTHON = "tag:yaml.org,2002:python/"


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader that keeps keys as text and reads upstream's tags as plain data."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _warn_of_repeated_keys(node)
        self.flatten_mapping(node)
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be plain text", key_node.start_mark
                )
            mapping[key_node.value] = self.construct_object(value_node, deep=deep)
        return mapping


def _warn_of_repeated_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            continue
        if key_node.value in seen:
            mark = key_node.start_mark
            _LOG.warning(
                "%s line %d: key %s appears twice; the last one counts",
                mark.name,
                mark.line + 1,
                key_node.value,
            )
        seen.add(key_node.value)


def _construct_tuple(loader: PlainLoader, node: Any) -> tuple:
    return tuple(loader.construct_sequence(node, deep=True))


def _construct_attr_dict(loader: PlainLoader, suffix: str, node: Any) -> dict:
    """Read an AttrDict of any module as the dict of its items, without its hidden state."""
    if suffix.rpartition(".")[2] != "AttrDict":
        raise yaml.constructor.ConstructorError(
            None, None, f"an object of type {suffix} is not read from a file", node.start_mark
        )
    return loader.construct_mapping(node, deep=True).get("dictitems", {})


def _construct_dtype(loader: PlainLoader, node: Any) -> np.dtype:
    parts = loader.construct_mapping(node, deep=True)
    name, byte_order = str(parts["args"][0]), parts["state"][1]
    if not re.fullmatch("[biuf][1248]", name) or byte_order not in ("<", ">", "|"):
        raise ValueError(f"numpy type {byte_order}{name} is not a number")
    return np.dtype(byte_order + name)


def _construct_numpy_scalar(loader: PlainLoader, node: Any) -> Any:
    dtype, raw = loader.construct_sequence(node, deep=True)
    return read_numbers(dtype, raw).tolist()[0]


def _construct_numpy_array(loader: PlainLoader, node: Any) -> Any:
    state = loader.construct_mapping(node, deep=True)["state"]
    shape, dtype, by_columns, raw = state[-4:]
    numbers = read_numbers(dtype, raw)
    return (numbers.reshape(shape[::-1]).T if by_columns else numbers.reshape(shape)).tolist()


def read_numbers(dtype: np.dtype, raw: Any) -> np.ndarray:
    """Return the numbers that YAML holds in numpy's own form.

    Args:
        dtype: their type.
        raw: their bytes; a string if Python 2 wrote them and they happen to be text.
    """
    return np.frombuffer(raw.encode("utf-8") if isinstance(raw, str) else raw, dtype)


def _register() -> None:
    PlainLoader.add_constructor(_PYTHON + "tuple", _construct_tuple)
    for prefix in ("object:", "object/new:"):
        PlainLoader.add_multi_constructor(_PYTHON + prefix, _construct_attr_dict)
    apply = _PYTHON + "object/apply:"
    PlainLoader.add_constructor(apply + "numpy.dtype", _construct_dtype)
    for module in ("numpy.core.multiarray.", "numpy._core.multiarray."):
        PlainLoader.add_constructor(apply + module + "scalar", _construct_numpy_scalar)
        PlainLoader.add_constructor(apply + module + "_reconstruct", _construct_numpy_array)
    # The name of the array's class is not needed.
    PlainLoader.add_constructor(_PYTHON + "name:numpy.ndarray", lambda loader, node: None)
    # Python 2 has tags for its two kinds of text and for its long integers.
    for kind in ("str", "unicode"):
        PlainLoader.add_constructor(_PYTHON + kind, lambda loader, node: node.value)
    PlainLoader.add_constructor(_PYTHON + "long", lambda loader, node: int(node.value))


_register()


def parse_yaml(text: str | bytes, source: str, loader_class: type = PlainLoader) -> Any:
    """Parse one YAML document.

    Args:
        text: the document.
        source: where it is from, such as a file name, for messages.
        loader_class: PyYAML's class that reads it; the default makes plain Python data.

    Raises:
        ConfigError: invalid YAML or a tag that is not plain data, with the line.
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise _invalid(source, f"longer than {MAX_YAML_CHARACTERS} characters")
    try:
        loader = loader_class(text)
        loader.name = source
        loader.deep_construct = True  # makes a list or map that holds itself an error
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}" if mark else ""
        raise _invalid(source + where, error.problem) from None
    except yaml.YAMLError as error:
        raise _invalid(source, error) from None
    except RecursionError:
        raise _invalid(source, "nested too deeply") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        # PyYAML's and numpy's converters raise these for text such as a 13th month.
        raise _invalid(source, error) from None


def _check_size(root: yaml.Node) -> None:
    """Refuse a document whose aliases and merges stand for very many values.

    A value that is named by an alias counts as often as it is named. Ten lines can name each other
    so that they stand for millions of values.

    Raises:
        YAMLError: there are more than MAX_YAML_VALUES.
        RecursionError: the document is nested deeply.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 1  # of a value that holds itself; the constructor refuses it
            children = [] if isinstance(node, yaml.ScalarNode) else node.value
            if isinstance(node, yaml.MappingNode):
                children = [part for pair in children for part in pair]
            sizes[id(node)] = 1 + sum(map(size, children))
        return sizes[id(node)]

    if size(root) > MAX_YAML_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {MAX_YAML_VALUES} values")


def _invalid(where: str, problem: object) -> ConfigError:
    return ConfigError(f"{where} is not valid YAML: {' '.join(str(problem).split())}")


def load_legacy_yaml(text: str | bytes) -> dict:
    """Read the configuration that upstream stores as YAML text inside its weights files.

    Returns:
        A nested dict of plain data. AttrDicts become dicts, numpy arrays nested lists and numpy
        scalars Python numbers; tuples stay tuples. The keys are not checked.

    Raises:
        ConfigError: the text is not YAML, not a map, or contains an object of another type.
    """
    tree = parse_yaml(text, "the stored configuration")
    if not isinstance(tree, dict):
        raise ConfigError("the stored configuration is not a map of keys")
    return tree


def dump_yaml(config: Config) -> str:
    """Return a configuration as YAML text that ``load`` reads back to an equal one.

    Arrays and tuples are written as lists; ``load`` restores their types.
    """
    return yaml.safe_dump(_plain(config), default_flow_style=None, sort_keys=True, width=100)


class _AttrDict(dict):
    """A map that is written as upstream's AttrDict."""


class _LegacyDumper(yaml.SafeDumper):
    """Writes maps as the AttrDicts that upstream's loader rebuilds."""


# The hidden state that upstream adds is left out, since some releases of PyYAML refuse it.
_LegacyDumper.add_representer(
    _AttrDict,
    lambda dumper, value: dumper.represent_mapping(
        _PYTHON + "object/new:detectron.utils.collections.AttrDict", {"dictitems": dict(value)}
    ),
)


def dump_legacy_yaml(config: Config) -> str:
    """Return a configuration as the YAML text that upstream expects inside a weights file.

    Upstream's ``load_cfg`` reads it as AttrDicts, ``load_legacy_yaml`` and ``load`` as plain data.
    """

    def tagged(value: Any) -> Any:
        if isinstance(value, dict):
            return _AttrDict((key, tagged(element)) for key, element in value.items())
        return value

    return yaml.dump(tagged(_plain(config)), Dumper=_LegacyDumper, sort_keys=True, width=100)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(element) for key, element in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [list(v) if isinstance(v, tuple) else v for v in value]
    if isinstance(value, str) and isinstance(decode(value), str) and decode(value) != value:
        return repr(value)  # text that has quotes of its own keeps them when it is read back
    return value

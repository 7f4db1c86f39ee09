"""LIBRA and DATASETS_EXTRA in upstream's ``cfg``.

Their values are merged by the rules of `detectron_ext.config`: an integer is accepted for a float,
and the message about a wrong key names the nearest one. Everything else is merged by upstream's own
rules. The key ``_BASE_`` of a file may name another file, which is merged first.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator

from detectron_ext.config.dotted import value_at
from detectron_ext.config.imports import import_parts
from detectron_ext.config.keys import KEYS, default_tree
from detectron_ext.config.loader import read_chain
from detectron_ext.config.merge import merge_map, merge_overrides
from detectron_ext.config.unused_keys import warn_of_unused_keys
from detectron_ext.config.validate import validate
from detectron_ext.conversion.installed import is_imagenet
from detectron_ext.errors import ConfigError
from detectron_ext.upstream.patches import Patch, constant
from detectron_ext.upstream.shims import UpstreamLoader

NODES = ("LIBRA", "DATASETS_EXTRA")
_CONFIG = "detectron.core.config"


def patches() -> list[Patch]:
    """Return the patches of upstream's configuration module."""
    return [
        Patch(_CONFIG, "merge_cfg_from_file", ("cfg_filename",), constant(merge_file)),
        Patch(_CONFIG, "merge_cfg_from_list", ("cfg_list",), _merging_list),
        Patch(_CONFIG, "_merge_a_into_b", ("a", "b", "stack"), _merging_map),
    ]


def add_nodes(cfg: Any) -> None:
    """Add the nodes with their defaults to ``cfg``; `remove_nodes` removes them again."""
    defaults = default_tree()
    for node in NODES:
        cfg.setdefault(node, _attr_dict(defaults[node]))


def remove_nodes(cfg: Any) -> None:
    """Remove the nodes from ``cfg``."""
    for node in NODES:
        cfg.pop(node, None)


def upstream_cfg() -> Any:
    """Return upstream's one configuration, an AttrDict that is global there."""
    from detectron.core.config import cfg

    return cfg


def merge_file(cfg_filename: str) -> None:
    """Merge a YAML file into upstream's ``cfg``, after the files that its ``_BASE_`` keys name.

    Raises:
        ConfigError: a file that cannot be read, or a wrong key or value. If the key is one of
            upstream's own, the error is also an instance of upstream's error class, such as
            KeyError.
    """
    from detectron.core import config as upstream_config

    layers = read_chain(cfg_filename, UpstreamLoader)
    imported = import_parts(layers)
    for tree, source in layers:
        with _one_line(source):
            upstream_config._merge_a_into_b(_attr_dict(tree), upstream_config.cfg)
    if imported:
        upstream_config.cfg.LIBRA.IMPORTS = imported


@contextlib.contextmanager
def _one_line(source: str) -> Iterator[None]:
    """Turn upstream's error about a key or value into a ConfigError that is also of its class."""
    try:
        yield
    except ConfigError:
        raise
    except (KeyError, ValueError, AssertionError) as error:
        methods = {"__str__": Exception.__str__}  # KeyError.__str__ adds quotation marks
        kind = type("UpstreamConfigError", (ConfigError, type(error)), methods)
        raise kind(f"{source}: {error.args[0]}") from error


def _merging_map(original: Callable) -> Callable:
    def merge(a: Any, b: Any, stack: Any = None) -> Any:
        if stack is None and any(node in a for node in NODES):
            ours = {node: a[node] for node in NODES if node in a}
            _merge_ours(b, lambda tree: merge_map(tree, ours, "the configuration"))
            a = type(a)((key, value) for key, value in a.items() if key not in ours)
        return original(a, b, stack)

    return merge


def _merging_list(original: Callable) -> Callable:
    def merge(cfg_list: list) -> Any:
        if len(cfg_list) % 2:
            raise ConfigError(f"the overrides are KEY VALUE pairs: {cfg_list[-1]} has no value")
        pairs = list(zip(cfg_list[0::2], cfg_list[1::2]))
        ours = [part for pair in pairs if _is_ours(pair[0]) for part in pair]
        if ours:
            import_parts(overrides=ours)
            _merge_ours(upstream_cfg(), lambda tree: merge_overrides(tree, ours, "the overrides"))
            cfg_list = [part for pair in pairs if not _is_ours(pair[0]) for part in pair]
        with _one_line("the overrides"):
            return original(cfg_list)

    return merge


def _is_ours(key: str) -> bool:
    return key.partition(".")[0] in NODES


def _merge_ours(cfg: Any, merge: Callable[[dict], None]) -> None:
    tree = {node: _plain(cfg.get(node, {})) for node in NODES}
    merge(tree)
    for node in NODES:
        cfg[node] = _attr_dict(tree[node])


def check(cfg: Any, train: bool) -> None:
    """Check the values of LIBRA, and that each changed key has an effect under upstream.

    Args:
        cfg: upstream's configuration, with the nodes.
        train: whether the model is built for training. If it is, keys that the model does not use
            are logged, too.

    Raises:
        ConfigError: a value out of range, or one that is not applied under upstream.
    """
    if train and is_imagenet(cfg.TRAIN.WEIGHTS):
        raise ConfigError(
            f"TRAIN.WEIGHTS {cfg.TRAIN.WEIGHTS} is no file, and upstream Detectron reads files: "
            "make one with tools/convert_backbone.py"
        )
    tree = default_tree()
    if _plain(cfg.LIBRA) == tree["LIBRA"]:
        return
    for node in ("LIBRA", "FPN", "RETINANET"):
        tree[node].update(_plain(cfg[node]))
    validate(tree)
    _refuse_keys_without_effect(tree, train)
    if cfg.LIBRA.BFP.ON and not cfg.FPN.FPN_ON:
        raise ConfigError(
            f"LIBRA.BFP.ON needs a pyramid, and {cfg.MODEL.CONV_BODY} has none: set it to False"
        )
    if train:
        warn_of_unused_keys(cfg)


def _refuse_keys_without_effect(tree: dict, train: bool) -> None:
    for name, key in KEYS.items():
        why = key.upstream
        if why is None or value_at(tree, name) == key.default:
            continue
        if train or not why.only_in_training:
            raise ConfigError(
                f"{name} has no effect under upstream Detectron: {why.reason}; leave it at its "
                "default, or use this project's tools without --upstream"
            )


def _attr_dict(value: Any) -> Any:
    from detectron.utils.collections import AttrDict

    if isinstance(value, dict):
        return AttrDict((key, _attr_dict(element)) for key, element in value.items())
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(element) for key, element in value.items()}
    return value

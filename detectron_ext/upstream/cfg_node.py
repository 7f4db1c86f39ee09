"""LIBRA and DATASETS_EXTRA in upstream's ``cfg``.

Values for them are merged by the rules of `detectron_ext.config` (an integer may stand for a float,
a wrong key names the nearest one), everything else by upstream's own. A file may build on another
with ``_BASE_``.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any, Iterator

from detectron_ext.config.defaults import default_tree
from detectron_ext.config.imports import import_parts
from detectron_ext.config.loader import read_chain
from detectron_ext.config.merge import merge_map, merge_overrides
from detectron_ext.config.unused_keys import warn_of_unused_keys
from detectron_ext.config.validate import validate
from detectron_ext.errors import ConfigError
from detectron_ext.upstream.patches import Patch, constant
from detectron_ext.upstream.shims import UpstreamLoader

NODES = ("LIBRA", "DATASETS_EXTRA")
_CONFIG = "detectron.core.config"
_APPLIED = frozenset(
    [
        "BALANCED_L1",
        "BFP",
        "BOX_LOSS",
        "IMPORTS",
        "LOG_PERIOD",
        "LOSS_WEIGHTS",
        "RETINANET_HEAD",
        "RETINANET_SAMPLER",
        "SAMPLER",
    ]
)
# What a model is tested without just as well.
_OF_TRAINING = {
    "AUGMENTATION": "upstream's loader makes the training images",
    "DATA": "upstream's loader reads the images",
    "FAST_CONV": "upstream adds its convolutions itself",
    "THREADS": "set OMP_NUM_THREADS before Python starts",
}


def patches() -> list:
    """Patches of upstream's configuration module."""
    return [
        Patch(_CONFIG, "merge_cfg_from_file", ("cfg_filename",), constant(merge_file)),
        Patch(_CONFIG, "merge_cfg_from_list", ("cfg_list",), _merging_list),
        Patch(_CONFIG, "_merge_a_into_b", ("a", "b", "stack"), _merging_map),
    ]


def add_nodes(cfg: Any) -> None:
    """Add the nodes at their defaults, for `remove_nodes` to take out again."""
    defaults = default_tree()
    for node in NODES:
        cfg.setdefault(node, _attr_dict(defaults[node]))


def remove_nodes(cfg: Any) -> None:
    """Take the nodes out of ``cfg``."""
    for node in NODES:
        cfg.pop(node, None)


def upstream_cfg() -> Any:
    """Upstream's one configuration."""
    from detectron.core.config import cfg

    return cfg


def merge_file(cfg_filename: str) -> None:
    """Merge a YAML file, after the files it builds on, into upstream's ``cfg``.

    Raises:
        ConfigError: a file that cannot be read, or a wrong key or value; one of upstream's own is a
            KeyError or ValueError too, as from upstream.
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
    """Let upstream's complaint about a key or value be a ConfigError besides what it is."""
    try:
        yield
    except ConfigError:
        raise
    except (KeyError, ValueError, AssertionError) as error:
        methods = {"__str__": Exception.__str__}  # a KeyError's would put it into quotes
        kind = type("UpstreamConfigError", (ConfigError, type(error)), methods)
        raise kind(f"{source}: {error.args[0]}") from error


def _merging_map(original):
    def merge(a, b, stack=None):
        if stack is None and any(node in a for node in NODES):
            ours = {node: a[node] for node in NODES if node in a}
            _merge_ours(b, lambda tree: merge_map(tree, ours, "the configuration"))
            a = type(a)((key, value) for key, value in a.items() if key not in ours)
        return original(a, b, stack)

    return merge


def _merging_list(original):
    def merge(cfg_list):
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


def _merge_ours(cfg, merge) -> None:
    tree = {node: _plain(cfg.get(node, {})) for node in NODES}
    merge(tree)
    for node in NODES:
        cfg[node] = _attr_dict(tree[node])


def check(cfg: Any, train: bool) -> None:
    """Check LIBRA's values, and that each is one that has an effect here; for training also warn
    of those that the model does not use.

    Raises:
        ConfigError: a value out of range, or one that is not applied under upstream.
    """
    defaults = default_tree()
    if _plain(cfg.LIBRA) == defaults["LIBRA"]:
        return
    tree = copy.deepcopy(defaults)
    for node in ("LIBRA", "FPN", "RETINANET"):
        tree[node].update(_plain(cfg[node]))
    validate(tree)
    for key, default in defaults["LIBRA"].items():
        if key in _APPLIED or _plain(cfg.LIBRA[key]) == default:
            continue
        if train or key not in _OF_TRAINING:
            reason = _OF_TRAINING.get(key, "that part of the model is upstream's own")
            raise ConfigError(
                f"LIBRA.{key} has no effect under upstream Detectron: {reason}; leave it at its "
                "default, or use this project's tools without --upstream"
            )
    if cfg.LIBRA.BFP.ON and not cfg.FPN.FPN_ON:
        raise ConfigError(
            f"LIBRA.BFP.ON needs a pyramid, and {cfg.MODEL.CONV_BODY} has none: set it to False"
        )
    if train:
        warn_of_unused_keys(cfg)


def _attr_dict(value: Any) -> Any:
    from detectron.utils.collections import AttrDict

    if isinstance(value, dict):
        return AttrDict((key, _attr_dict(element)) for key, element in value.items())
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(element) for key, element in value.items()}
    return value

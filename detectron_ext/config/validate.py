"""Values that follow from others, and checks of a merged tree before it becomes a Config."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from detectron_ext.config import rules
from detectron_ext.config.dataset_entry import DEFAULT_FORMAT, PATHS, check_folder_name
from detectron_ext.config.defaults import default_tree
from detectron_ext.errors import ConfigError, choice_error, shown
from detectron_ext.registry import Registry


def infer(tree: dict) -> None:
    """Set, in place, the keys that upstream derives from others."""
    if tree["MODEL"]["RPN_ONLY"] or tree["MODEL"]["FASTER_RCNN"]:
        tree["RPN"]["RPN_ON"] = True
    if tree["RPN"]["RPN_ON"] or tree["RETINANET"]["RETINANET_ON"]:
        tree["TEST"]["PRECOMPUTED_PROPOSALS"] = False


def validate(tree: dict) -> None:
    """Check choices, ranges and the consistency of keys with each other.

    Raises:
        ConfigError: the first contradiction found, in one line.
    """
    _check_choices(tree)
    _check_registered(tree)
    _check_ranges(tree)
    _check_sequences(tree)
    _check_order(tree)
    _check_schedule(tree["SOLVER"])
    _check_group_norm(tree["GROUP_NORM"])
    _check_balanced_l1(tree["LIBRA"]["BALANCED_L1"])
    _check_box_voting(tree["TEST"]["BBOX_VOTE"])
    _check_dataset_names(tree)
    _check_datasets(tree["DATASETS_EXTRA"])


def _value(tree: dict, name: str) -> Any:
    value: Any = tree
    for part in name.split("."):
        value = value[part]
    return value


def _check_choices(tree: dict) -> None:
    for name, choices in rules.CHOICES.items():
        value = _value(tree, name)
        if value not in choices:
            raise choice_error(name, choices, value)


def _check_registered(tree: dict) -> None:
    """Check that parts chosen by name are registered; a default is, and needs no import."""
    defaults = default_tree()
    for name, registry in rules.REGISTRIES.items():
        value = _value(tree, name)
        if value != _value(defaults, name):
            registered(registry).choose(value)


def registered(place: str) -> Registry:
    """Return the registry at ``place``, "module:NAME", after importing its module."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _check_ranges(tree: dict) -> None:
    for name in rules.POSITIVE:
        _require(_value(tree, name) > 0, tree, name, "must be above 0")
    for name in rules.FRACTIONS:
        _require(0 <= _value(tree, name) <= 1, tree, name, "must lie between 0 and 1")
    for name in rules.PROPER_FRACTIONS:
        _require(0 <= _value(tree, name) < 1, tree, name, "must be at least 0 and below 1")
    for name, least in rules.AT_LEAST.items():
        _require(_value(tree, name) >= least, tree, name, f"must be at least {least}")
    for name, most in rules.AT_MOST.items():
        _require(_value(tree, name) <= most, tree, name, f"must be at most {most:g}")
    for name, (low, high) in rules.SINGLE_PRECISION.items():
        demand = f"must lie between {low:g} and {high:g}"
        _require(low <= _value(tree, name) <= high, tree, name, demand)
    name = "RETINANET.PRIOR_PROB"
    _require(0 < _value(tree, name) < 1, tree, name, "must lie between 0 and 1, both excluded")


def _require(holds: bool, tree: dict, name: str, demand: str) -> None:
    if not holds:
        raise ConfigError(f"{name} {demand}, given {shown(_value(tree, name))}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _check_sequences(tree: dict) -> None:
    for name in rules.TEXTS:
        texts = all(isinstance(element, str) for element in _value(tree, name))
        _require(texts, tree, name, "must hold strings only")
    for name, (fewest, most) in rules.POSITIVE_SEQUENCES.items():
        value = _value(tree, name)
        numbers = all(_is_number(element) and element > 0 for element in value)
        _require(numbers, tree, name, "must hold numbers above 0 only")
        count = f"{fewest}" if fewest == most else f"at least {fewest}"
        _require(fewest <= len(value) <= most, tree, name, f"must hold {count} of them")
    low, high = tree["LIBRA"]["AUGMENTATION"]["SCALE_RANGE"]
    _require(low <= high, tree, "LIBRA.AUGMENTATION.SCALE_RANGE", "must be (low, high)")
    rows = tree["EXPECTED_RESULTS"]
    fours = all(isinstance(row, list) and len(row) == 4 for row in rows)
    _require(fours, tree, "EXPECTED_RESULTS", "must hold [data set, task, metric, value] rows")


def _check_order(tree: dict) -> None:
    for lower, upper in rules.ORDERED:
        low, high = _value(tree, lower), _value(tree, upper)
        if low > high:
            raise ConfigError(f"{lower} ({low}) must not be above {upper} ({high})")


def _check_schedule(solver: dict) -> None:
    policy, steps, rates = solver["LR_POLICY"], solver["STEPS"], solver["LRS"]
    if not all(_is_number(step) for step in steps):
        raise ConfigError(f"SOLVER.STEPS must hold numbers only, given {shown(steps)}")
    if not policy.startswith("steps_"):
        return
    if not steps or steps[0] != 0:
        raise ConfigError(
            f"SOLVER.STEPS must start with 0 under LR_POLICY {policy}, given {shown(steps)}"
        )
    if any(later <= earlier for earlier, later in zip(steps, steps[1:])):
        raise ConfigError(f"SOLVER.STEPS must rise, given {shown(steps)}")
    if policy == "steps_with_lrs" and len(rates) != len(steps):
        raise ConfigError(
            f"SOLVER.LRS must have one rate for each of SOLVER.STEPS under LR_POLICY {policy}, "
            f"given {len(rates)} for {len(steps)}"
        )


def _check_group_norm(group_norm: dict) -> None:
    channels, groups = group_norm["DIM_PER_GP"], group_norm["NUM_GROUPS"]
    if min(channels, groups) != -1 or max(channels, groups) < 1:
        raise ConfigError(
            "of GROUP_NORM.DIM_PER_GP and GROUP_NORM.NUM_GROUPS one must be -1 and the other "
            f"above 0, given {channels} and {groups}"
        )


def _check_balanced_l1(balanced: dict) -> None:
    # The operator compares the two as it gets them, in single precision.
    alpha, gamma = (float(np.float32(balanced[key])) for key in ("ALPHA", "GAMMA"))
    if gamma > rules.MAX_BALANCED_L1_EXPONENT * alpha:
        raise ConfigError(
            f"LIBRA.BALANCED_L1.GAMMA must be at most {rules.MAX_BALANCED_L1_EXPONENT} times "
            f"LIBRA.BALANCED_L1.ALPHA ({balanced['ALPHA']}), given {shown(balanced['GAMMA'])}"
        )


def _check_box_voting(voting: dict) -> None:
    method = voting["SCORING_METHOD"]
    divides = method in ("TEMP_AVG", "GENERALIZED_AVG")
    if voting["ENABLED"] and divides and voting["SCORING_METHOD_BETA"] == 0:
        raise ConfigError(
            f"TEST.BBOX_VOTE.SCORING_METHOD_BETA must not be 0 with SCORING_METHOD {method}, which "
            "divides by it"
        )


def _check_dataset_names(tree: dict) -> None:
    """Also of the names that are looked up elsewhere, before a run makes a folder of them."""
    for key in ("DATASETS_EXTRA", "TRAIN.DATASETS", "TEST.DATASETS"):
        for name in _value(tree, key):
            check_folder_name(name, key)


def _check_datasets(datasets: dict) -> None:
    for name, fields in datasets.items():
        for field in PATHS:
            if not fields.get(field):
                raise ConfigError(f"DATASETS_EXTRA.{name} lacks {field}; give im_dir and ann_fn")
        chosen = fields.get("format") or DEFAULT_FORMAT
        if chosen != DEFAULT_FORMAT and chosen not in registered(rules.FORMATS):
            label = f"DATASETS_EXTRA.{name}.format"
            raise choice_error(label, registered(rules.FORMATS), chosen)

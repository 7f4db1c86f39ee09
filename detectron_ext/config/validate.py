"""Inferred values, and checks of a merged tree before it becomes a Config."""

from __future__ import annotations

import numpy as np

from detectron_ext.config.dataset_entry import (
    DEFAULT_FORMAT,
    FORMATS,
    PATHS,
    check_folder_name,
)
from detectron_ext.config.dotted import value_at
from detectron_ext.config.keys import KEYS
from detectron_ext.config.rules import RegisteredName, registered
from detectron_ext.errors import ConfigError, choice_error, shown
from detectron_ext.geometry.anchors import rounded_sides
from detectron_ext.limits import MAX_BALANCED_L1_EXPONENT


def infer(tree: dict) -> None:
    """Set, in place, the keys that upstream infers from others."""
    for name, key in KEYS.items():
        inferred = key.inferred
        if inferred and any(value_at(tree, cause) for cause in inferred.if_any):
            section, _, last = name.rpartition(".")
            value_at(tree, section)[last] = inferred.value


def validate(tree: dict) -> None:
    """Check each key by the rules of its entry, and keys that have to fit each other.

    Raises:
        ConfigError: the first contradiction found, in one line.
    """
    for name, key in KEYS.items():
        value = value_at(tree, name)
        for rule in key.rules:
            # The module of a registry is imported only for a value that is not the default: reading
            # a configuration needs no Caffe2.
            if not (isinstance(rule, RegisteredName) and value == key.default):
                rule.check(name, value, tree)
    _check_schedule(tree["SOLVER"])
    _check_group_norm(tree["GROUP_NORM"])
    _check_balanced_l1(tree["LIBRA"]["BALANCED_L1"])
    _check_box_voting(tree["TEST"]["BBOX_VOTE"])
    _check_aspect_ratios(tree)
    _check_dataset_names(tree)
    _check_datasets(tree["DATASETS_EXTRA"])


def _check_schedule(solver: dict) -> None:
    policy, steps, rates = solver["LR_POLICY"], solver["STEPS"], solver["LRS"]
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
            "one of GROUP_NORM.DIM_PER_GP and GROUP_NORM.NUM_GROUPS must be -1 and the other one "
            f"above 0, given {channels} and {groups}"
        )


def _check_balanced_l1(balanced: dict) -> None:
    # The operator compares the two numbers in single precision.
    alpha, gamma = (float(np.float32(balanced[key])) for key in ("ALPHA", "GAMMA"))
    if gamma > MAX_BALANCED_L1_EXPONENT * alpha:
        raise ConfigError(
            f"LIBRA.BALANCED_L1.GAMMA must be at most {MAX_BALANCED_L1_EXPONENT} times "
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


def _check_aspect_ratios(tree: dict) -> None:
    """Refuse ratios that make anchors of 0 pixels; only those of the model are checked."""
    if tree["LIBRA"]["BOX_CONVENTION"] == "mmdet":
        return  # its anchors are not rounded
    key, stride = _finest_anchors(tree)
    for ratio in value_at(tree, key) if key else ():
        if not all(1 <= side < np.inf for side in rounded_sides(stride, ratio)):
            raise ConfigError(
                f"{key} has {shown(ratio)}, at which an anchor of the finest level (stride "
                f"{stride:g}) has a side of 0 pixels: choose a ratio nearer to 1"
            )


def _finest_anchors(tree: dict) -> tuple[str, float]:
    """Return the key of the anchors' ratios and their smallest stride; "" if there are none."""
    model, fpn = tree["MODEL"], tree["FPN"]
    finest = 2.0 ** fpn["RPN_MIN_LEVEL"]
    if model["TYPE"] == "retinanet":
        return "RETINANET.ASPECT_RATIOS", finest
    if not (model["FASTER_RCNN"] or model["RPN_ONLY"]):
        return "", finest
    if fpn["FPN_ON"] and fpn["MULTILEVEL_RPN"]:
        return "FPN.RPN_ASPECT_RATIOS", finest
    return "RPN.ASPECT_RATIOS", float(tree["RPN"]["STRIDE"])


def _check_dataset_names(tree: dict) -> None:
    """Check all data set names, built-in ones too, before a run makes a folder of each."""
    for key in ("DATASETS_EXTRA", "TRAIN.DATASETS", "TEST.DATASETS"):
        for name in value_at(tree, key):
            check_folder_name(name, key)


def _check_datasets(datasets: dict) -> None:
    for name, fields in datasets.items():
        for field in PATHS:
            if not fields.get(field):
                raise ConfigError(f"DATASETS_EXTRA.{name} lacks {field}; give im_dir and ann_fn")
        chosen = fields.get("format") or DEFAULT_FORMAT
        if chosen != DEFAULT_FORMAT and chosen not in registered(FORMATS):
            raise choice_error(f"DATASETS_EXTRA.{name}.format", registered(FORMATS), chosen)

"""The default tree against upstream's, and the configurations that upstream ships."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from detectron_ext import config
from detectron_ext.config.dotted import leaves, names
from detectron_ext.config.key_names import DEPRECATED_KEYS, RENAMED_KEYS
from detectron_ext.config.keys import default_tree
from detectron_ext.config.validate import validate

OURS = {"LIBRA", "DATASETS_EXTRA"}
TUPLES = {
    "FPN.RPN_ASPECT_RATIOS",
    "MODEL.BBOX_REG_WEIGHTS",
    "RETINANET.ASPECT_RATIOS",
    "RPN.ASPECT_RATIOS",
    "RPN.SIZES",
    "TEST.BBOX_AUG.ASPECT_RATIOS",
    "TEST.BBOX_AUG.SCALES",
    "TEST.DATASETS",
    "TEST.KPS_AUG.ASPECT_RATIOS",
    "TEST.KPS_AUG.SCALES",
    "TEST.MASK_AUG.ASPECT_RATIOS",
    "TEST.MASK_AUG.SCALES",
    "TEST.PROPOSAL_FILES",
    "TRAIN.DATASETS",
    "TRAIN.PROPOSAL_FILES",
    "TRAIN.SCALES",
}
LISTS = {"EXPECTED_RESULTS", "SOLVER.LRS", "SOLVER.STEPS"}


def json_leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and "__ndarray__" not in value:
            yield from json_leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def as_json(value):
    """Return a default as upstream's JSON file writes it: a tuple is a list there."""
    if isinstance(value, np.ndarray):
        return {"__ndarray__": value.tolist()}
    return list(value) if isinstance(value, tuple) else value


def test_defaults_and_types_equal_those_of_upstream(shared_path):
    upstream = json.loads(shared_path("legacy/cfg_defaults.json").read_text())
    theirs = dict(json_leaves(upstream))
    ours = dict(leaves({k: v for k, v in default_tree().items() if k not in OURS}))
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"ROOT_DIR"}:
        assert as_json(ours[name]) == theirs[name], name
        assert type(as_json(ours[name])) is type(theirs[name]), name


def test_sequences_are_lists_or_tuples_as_in_upstream():
    sequences = {n: v for n, v in leaves(default_tree()) if isinstance(v, (list, tuple))}
    theirs = {n: type(v) for n, v in sequences.items() if not n.startswith("LIBRA.")}
    assert theirs == {**dict.fromkeys(TUPLES, tuple), **dict.fromkeys(LISTS, list)}


def test_libra_defaults_are_plain_detectron():
    assert config.load().LIBRA == {
        "BFP": {
            "ON": False,
            "REFINE_LEVEL": 4,
            "REFINE_TYPE": "non_local",
            "INIT": "identity",
        },
        "FPN": {"EXTRA_LEVELS_ON": "input", "EXTRA_LEVELS_RELU": True},
        "BOX_CONVENTION": "detectron",
        "BOX_LOSS": "",
        "CLASS_LOSS": "focal",
        "IMPORTS": [],
        "BALANCED_L1": {"ON": False, "ALPHA": 0.5, "GAMMA": 1.5, "FORMULA": "continuous"},
        "SAMPLER": {
            "NEGATIVE": "random",
            "POSITIVE": "random",
            "NUM_BINS": 3,
            "FLOOR_THRESH": 0.0,
            "FLOOR_FRACTION": 0.0,
            "BIN_RANGE": "negatives",
            "RPN": False,
            "RPN_NEG_POS_UB": -1.0,
            "RPN_NORMALISER": "auto",
        },
        "RETINANET_SAMPLER": {
            "MODE": "none",
            "NEGATIVE": "iou_balanced",
            "NUM_BINS": 3,
            "FLOOR_THRESH": 0.0,
            "FLOOR_FRACTION": 0.0,
            "BIN_RANGE": "negatives",
            "NEG_PER_POS": 3.0,
            "MIN_NEG": 256,
            "ATSS_POSITIONS": 9,
        },
        "RETINANET_WEIGHTS": {
            "POSITIVE": "none",
            "ETA": 1.5,
            "RANK_GAMMA": 2.0,
            "RANK_BIAS": 0.0,
            "BOX": "none",
            "LAMBDA": 1.5,
            "BOX_MEAN_ONE": True,
            "TOTAL": "batch",
            "SHUFFLED": False,
        },
        "RETINANET_NEGATIVES": {
            "WEIGHTS": "none",
            "TAU": 0.5,
            "CLIP": (0.5, 2.0),
            "MOMENTUM": 0.9,
            "SHUFFLED": "none",
        },
        "LOSS_WEIGHTS": {"CLS": 1.0, "BBOX": 1.0},
        "RETINANET_HEAD": {"USE_GN": False},
        "AUGMENTATION": {
            "FLIP_VERTICAL": False,
            "ROTATE90": False,
            "SCALE_RANGE": (1.0, 1.0),
            "CROP": False,
            "COLOR_JITTER": 0.0,
        },
        "TRAIN": {
            "LOAD": "strict",
            "KEEP_CHECKPOINTS": 0,
            "SKIP_NONFINITE": 0,
            "FREE_BLOBS": True,
        },
        "DATA": {"DEEP_IMAGES": "refuse", "SKIP_BAD_IMAGES": False, "KEEP_EMPTY_IMAGES": False},
        "IGNORE_CROWD_ANCHORS": False,
        "EVALUATION": {"AP_DETECTIONS": 100},
        "CLIP_GRADIENTS": 0.0,
        "FAST_CONV": "auto",
        "FOLD_AFFINE": True,
        "LOG_PERIOD": 20,
        "THREADS": 0,
        "TENSORBOARD": False,
    }


def test_each_default_tree_is_valid_and_independent_of_the_others():
    first, second = default_tree(), default_tree()
    validate(first)
    first["SOLVER"]["STEPS"].append(7)
    first["TEST"]["BBOX_AUG"]["H_FLIP"] = True
    assert second["SOLVER"]["STEPS"] == []
    assert second["TEST"]["MASK_AUG"]["H_FLIP"] is False
    assert second["ROOT_DIR"] == os.getcwd()


def test_old_names_are_unknown_and_new_names_exist():
    known = set(names(default_tree()))
    assert known.isdisjoint(DEPRECATED_KEYS)
    assert known.isdisjoint(RENAMED_KEYS)
    assert known.issuperset(new for new, _ in RENAMED_KEYS.values())


def test_every_legacy_config_loads_unmodified(shared_path):
    files = sorted(shared_path("legacy/configs").rglob("*.yaml"))
    assert len(files) > 70
    for file in files:
        loaded = config.load(file)
        assert loaded.MODEL.NUM_CLASSES in (2, 81), file
        has_proposal_stage = loaded.RPN.RPN_ON or loaded.RETINANET.RETINANET_ON
        assert loaded.TEST.PRECOMPUTED_PROPOSALS is not has_proposal_stage, file


def test_legacy_retinanet_values(shared_path):
    file = shared_path("legacy/configs/12_2017_baselines/retinanet_R-50-FPN_1x.yaml")
    loaded = config.load(file)
    assert loaded.TRAIN.DATASETS == ("coco_2014_train", "coco_2014_valminusminival")
    assert loaded.TRAIN.WEIGHTS.startswith("https://")
    assert loaded.TRAIN.SCALES == (800,)
    assert loaded.RETINANET.ASPECT_RATIOS == (1.0, 2.0, 0.5)
    assert loaded.SOLVER.STEPS == [0, 60000, 80000]
    assert loaded.NUM_GPUS == 8


@pytest.mark.parametrize("switch", ["MODEL.RPN_ONLY", "MODEL.FASTER_RCNN"])
def test_rpn_is_inferred(switch):
    loaded = config.load(overrides=[switch, "True"])
    assert loaded.RPN.RPN_ON is True
    assert loaded.TEST.PRECOMPUTED_PROPOSALS is False


def test_proposals_come_from_files_without_rpn_and_retinanet():
    assert config.load().TEST.PRECOMPUTED_PROPOSALS is True
    retinanet = config.load(overrides=["RETINANET.RETINANET_ON", "True"])
    assert retinanet.TEST.PRECOMPUTED_PROPOSALS is False
    assert retinanet.RPN.RPN_ON is False

"""The default configuration: Detectron's tree, one module a subject, plus LIBRA and DATASETS_EXTRA.

Each module holds plain nested dicts, so a default and what it means stand on neighbouring lines.
A default also fixes its key's type: values merged later must have it (see ``config.values``).
"""

from __future__ import annotations

import copy
import os

from detectron_ext.config.defaults.backbone import FPN, GROUP_NORM, RESNETS
from detectron_ext.config.defaults.general import CLUSTER, DATA_LOADER, DATASETS_EXTRA, GENERAL
from detectron_ext.config.defaults.libra import LIBRA
from detectron_ext.config.defaults.model import MODEL
from detectron_ext.config.defaults.proposals import RFCN, RPN
from detectron_ext.config.defaults.retinanet import RETINANET
from detectron_ext.config.defaults.roi_heads import FAST_RCNN, KRCNN, MRCNN
from detectron_ext.config.defaults.solver import SOLVER
from detectron_ext.config.defaults.testing import TEST
from detectron_ext.config.defaults.training import TRAIN

# Sections whose keys the user invents; everywhere else an unknown key is an error.
FREE_FORM_SECTIONS = frozenset(["DATASETS_EXTRA"])

_SECTIONS = {
    "CLUSTER": CLUSTER,
    "DATASETS_EXTRA": DATASETS_EXTRA,
    "DATA_LOADER": DATA_LOADER,
    "FAST_RCNN": FAST_RCNN,
    "FPN": FPN,
    "GROUP_NORM": GROUP_NORM,
    "KRCNN": KRCNN,
    "LIBRA": LIBRA,
    "MODEL": MODEL,
    "MRCNN": MRCNN,
    "RESNETS": RESNETS,
    "RETINANET": RETINANET,
    "RFCN": RFCN,
    "RPN": RPN,
    "SOLVER": SOLVER,
    "TEST": TEST,
    "TRAIN": TRAIN,
}


def default_tree() -> dict:
    """Return a fresh nested dict of every key's default; ``ROOT_DIR`` is the current folder."""
    tree: dict = {**copy.deepcopy(_SECTIONS), **copy.deepcopy(GENERAL)}
    tree["ROOT_DIR"] = os.getcwd()
    return tree

"""The table of configuration keys: Detectron's and this project's, one module for each subject.

An entry (`key.Key`) holds a key's default, its description, the allowed values and the detectors
that use it. A default also fixes the type of its key: values that are merged later must have it
(see ``config.values``).
"""

from __future__ import annotations

import os

from detectron_ext.config.keys.backbone import FPN, GROUP_NORM, RESNETS
from detectron_ext.config.keys.general import CLUSTER, DATA_LOADER, DATASETS_EXTRA, GENERAL
from detectron_ext.config.keys.key import Key, Section
from detectron_ext.config.keys.libra import LIBRA
from detectron_ext.config.keys.model import MODEL
from detectron_ext.config.keys.proposals import RFCN, RPN
from detectron_ext.config.keys.retinanet import RETINANET
from detectron_ext.config.keys.roi_heads import FAST_RCNN, KRCNN, MRCNN
from detectron_ext.config.keys.solver import SOLVER
from detectron_ext.config.keys.testing import TEST
from detectron_ext.config.keys.training import TRAIN

ROOT = Section(
    "The whole configuration.",
    GENERAL,
    CLUSTER=CLUSTER,
    DATASETS_EXTRA=DATASETS_EXTRA,
    DATA_LOADER=DATA_LOADER,
    FAST_RCNN=FAST_RCNN,
    FPN=FPN,
    GROUP_NORM=GROUP_NORM,
    KRCNN=KRCNN,
    LIBRA=LIBRA,
    MODEL=MODEL,
    MRCNN=MRCNN,
    RESNETS=RESNETS,
    RETINANET=RETINANET,
    RFCN=RFCN,
    RPN=RPN,
    SOLVER=SOLVER,
    TEST=TEST,
    TRAIN=TRAIN,
)

# Every key by its dotted name. A key with an inferred value comes after the keys that decide it.
KEYS: dict[str, Key] = dict(ROOT.keys())

SECTIONS: dict[str, Section] = dict(ROOT.sections())

# Sections whose keys the user invents; everywhere else an unknown key is an error.
FREE_FORM_SECTIONS = frozenset(name for name, section in SECTIONS.items() if section.free_form)


def default_tree() -> dict:
    """Return a fresh nested dict of every key's default; ``ROOT_DIR`` is the current folder."""
    return {**ROOT.defaults(), "ROOT_DIR": os.getcwd()}

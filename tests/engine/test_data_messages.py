"""What the start of training and of testing says about the fit of anchors and the scales."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from squares import write_tiny_config, write_tiny_rcnn_config

from detectron_ext.config import load
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.engine.inference import detect_dataset, records_to_test
from detectron_ext.engine.training_data import TrainingMinibatches


@pytest.fixture(autouse=True)
def _info(caplog):
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize(
    "write, key",
    [
        (write_tiny_config, "RETINANET.NEGATIVE_OVERLAP"),
        (write_tiny_rcnn_config, "TRAIN.RPN_NEGATIVE_OVERLAP"),
    ],
)
def test_training_counts_the_objects_that_anchors_fit(tmp_path, caplog, write, key):
    TrainingMinibatches(load(str(write(tmp_path))))
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("anchors: ")]
    assert len(lines) == 1 and "anchors: the best IoU of 16 boxes" in lines[0]
    assert f"is below {key} " in lines[0]


@pytest.mark.parametrize("write", [write_tiny_config, write_tiny_rcnn_config])
def test_training_warns_of_objects_that_no_anchor_fits(tmp_path, caplog, write):
    config = load(str(write(tmp_path)), ("TRAIN.SCALES", (16,), "TRAIN.MAX_SIZE", 16))
    TrainingMinibatches(config)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1 and warnings[0].startswith("anchors: 16 of 16 boxes (100%)")


def test_training_and_testing_warn_of_a_limit_below_the_scale(tmp_path, caplog):
    config = load(str(write_tiny_config(tmp_path)), ("TRAIN.SCALES", (200,), "TEST.SCALE", 200))
    TrainingMinibatches(config)
    assert "TRAIN.MAX_SIZE 128 limits 8 of 8 images: their shorter side becomes 128" in caplog.text
    dataset = CocoDataset(resolve("squares", config))
    records = records_to_test(config, dataset, dataset.image_ids())
    nothing = np.zeros((0, 6), dtype=np.float32)
    detect_dataset(config, lambda *_: nothing, dataset, dataset.image_ids(), records)
    assert "TEST.MAX_SIZE 128 limits 8 of 8 images: their shorter side becomes 128" in caplog.text

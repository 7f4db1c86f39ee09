from __future__ import annotations

import logging

import numpy as np
import pytest

from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.size_limit import report_size_limit


def records(*sizes):
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool)
    return [ImageRecord(1, "x", height, width, *none, False, "toy") for height, width in sizes]


@pytest.mark.parametrize(
    "scales, limit, level, message",
    [
        ((100,), 200, None, ""),
        ((50, 100), 100, logging.INFO, "A 100 limits 1 of 3 images: their shorter side becomes 50 "
         "pixels, not the 100 of B"),
        ((50, 100), 60, logging.WARNING, "A 60 limits 3 of 3 images: their shorter side becomes 30 "
         "to 60 pixels, not the 100 of B; raise A"),
    ],
)  # fmt: skip
def test_a_limit_that_takes_effect_is_said_with_its_count(caplog, scales, limit, level, message):
    with caplog.at_level(logging.INFO):
        report_size_limit(records((40, 40), (40, 80), (500, 500)), scales, limit, "B", "A")
    said = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert said == ([(level, message)] if message else [])


def test_a_rounded_side_is_no_limit(caplog):
    with caplog.at_level(logging.INFO):  # 100.2 pixels are rounded to 100
        report_size_limit(records((500, 501)), (100,), 100, "B", "A")
    assert not caplog.records


def test_no_images_say_nothing(caplog):
    with caplog.at_level(logging.INFO):
        report_size_limit([], (100,), 10, "B", "A")
    assert not caplog.records


def test_a_side_keeps_a_pixel(caplog):
    with caplog.at_level(logging.INFO):
        report_size_limit(records((12, 9000)), (100,), 100, "B", "A")
    assert "their shorter side becomes 1 pixel, not the 100 of B" in caplog.text

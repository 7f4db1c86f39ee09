"""Limits and defaults that C++ and Python share are the same in both."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext import ops
from detectron_ext.geometry.boxes import decode
from detectron_ext.ops import reference
from detectron_ext.ops.operators.roi_max_pool import LARGEST_CORNER

REPOSITORY = Path(__file__).resolve().parents[2]


def in_cpp(pattern: str) -> tuple[str, ...]:
    """Return the groups of the one match of `pattern` in the C++ headers."""
    headers = sorted((REPOSITORY / "ops").rglob("*.h"))
    found = [match for path in headers for match in re.findall(pattern, path.read_text())]
    assert len(found) == 1, (pattern, found)
    return found[0] if isinstance(found[0], tuple) else (found[0],)


def in_python(pattern: str) -> set[tuple[str, ...]]:
    """Return the groups of all matches of `pattern` at the start of lines of the package."""
    sources = sorted((REPOSITORY / "detectron_ext").rglob("*.py"))
    found = [m for path in sources for m in re.findall(pattern, path.read_text(), re.MULTILINE)]
    return {match if isinstance(match, tuple) else (match,) for match in found}


def test_the_largest_exponent_of_balanced_l1_is_shared():
    limit = in_cpp(r"kMaxBalancedL1Exponent = (\d+);")
    assert in_python(r"^MAX_BALANCED_L1_EXPONENT = (\d+)") == {limit}


def test_the_number_of_pyramid_levels_is_shared():
    limits = in_cpp(r"kMinPyramidLevels = (\d+);") + in_cpp(r"kMaxPyramidLevels = (\d+);")
    assert in_python(r"^MIN_\w*LEVELS, MAX_\w*LEVELS = (\d+), (\d+)") == {limits}


def test_the_number_of_bins_of_negatives_is_shared():
    limit = in_cpp(r"kMaxGradientBins = (\d+);")
    assert in_python(r"^MAX_GRADIENT_BINS = (\d+)") == {limit}


def test_the_largest_change_of_a_box_size_is_shared():
    numerator, denominator = map(float, in_cpp(r"kMaxLogScale = std::log\(([\d.]+)f / ([\d.]+)f\)"))
    limit = math.log(numerator / denominator)
    config = configuration.load(str(REPOSITORY / "configs" / "retinanet_R-50-FPN.yaml"))
    default = inspect.signature(decode).parameters["max_log_scale"].default
    np.testing.assert_allclose([config.BBOX_XFORM_CLIP, default], limit, rtol=1e-12)


def test_the_smallest_logarithm_of_the_focal_losses_is_shared():
    limit = np.float32(in_cpp(r"kLogOfSmallest = (-[\d.]+)f;")[0])
    assert limit == np.float32(np.log(np.finfo(np.float32).tiny))
    assert np.float32(reference.focal_losses.LOG_OF_SMALLEST) == limit


def test_the_largest_corner_of_a_pooled_region_is_shared():
    text = (REPOSITORY / "ops" / "kernels" / "roi_pool.h").read_text()
    (limit,) = re.findall(r"kLargest = ([\de]+)f;", text)
    assert float(limit) == LARGEST_CORNER


@pytest.mark.parametrize("front_end", [ops.balanced_l1_loss, ops.select_balanced_l1_loss])
def test_the_defaults_of_balanced_l1_are_shared(front_end):
    text = (REPOSITORY / "ops" / "operators" / "box_loss_arguments.h").read_text()
    function = text[text.index("inline BalancedL1 FormulaFromArguments") :]
    defaults = dict(re.findall(r'Argument\(op, "(\w+)", ([\d.]+)f\)', function))
    assert set(defaults) == {"alpha", "gamma", "beta"}
    for name, value in defaults.items():
        assert inspect.signature(front_end).parameters[name].default == float(value), name

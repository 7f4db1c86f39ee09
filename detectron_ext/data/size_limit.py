"""Messages about TRAIN.MAX_SIZE and TEST.MAX_SIZE where they keep images from their scale."""

from __future__ import annotations

import logging
from typing import Sequence

import numpy as np

from detectron_ext.counted import by_number
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.transforms import resize_scales

_LOG = logging.getLogger(__name__)


def report_size_limit(
    records: Sequence[ImageRecord],
    scales: Sequence[float],
    max_size: float,
    scale_key: str,
    limit_key: str,
) -> None:
    """Log how many images the limit on the longer side keeps from their scale.

    A limit below a scale keeps all images from it: that is a warning. A limit that only long images
    reach is usual.

    Args:
        records: the images.
        scales: lengths in pixels to which the shorter side is to be resized.
        max_size: upper limit in pixels for the longer side.
        scale_key: the key of ``scales``.
        limit_key: the key of ``max_size``.
    """
    message = size_limit_message(
        np.array([record.height for record in records], dtype=np.int64),
        np.array([record.width for record in records], dtype=np.int64),
        scales,
        max_size,
        scale_key,
        limit_key,
    )
    if message:
        _LOG.log(logging.WARNING if max_size < max(scales) else logging.INFO, "%s", message)


def size_limit_message(
    heights: np.ndarray,
    widths: np.ndarray,
    scales: Sequence[float],
    max_size: float,
    scale_key: str,
    limit_key: str,
) -> str:
    """Return the message of :func:`report_size_limit`; "" if no image reaches the limit.

    Args:
        heights, widths: (N,) int64 sizes of the images in pixels.
        scales, max_size, scale_key, limit_key: as of :func:`report_size_limit`.
    """
    largest = max(scales)
    shorter = np.minimum(heights, widths)
    resized = resize_scales(heights, widths, largest, max_size) * shorter
    limited = resized < largest - 0.5
    count = int(np.count_nonzero(limited))
    if not count:
        return ""
    # A side keeps at least one pixel.
    low, high = (
        max(1, round(float(side))) for side in (resized[limited].min(), resized[limited].max())
    )
    sizes = f"{low}" if low == high else f"{low} to {high}"
    pixels = by_number(high, "pixel", "pixels")
    advice = f"; raise {limit_key}" if max_size < largest else ""
    return (
        f"{limit_key} {max_size:g} limits {count} of {len(heights)} images: their shorter side "
        f"becomes {sizes} {pixels}, not the {largest:g} of {scale_key}{advice}"
    )

"""From an image file to the array that the network gets; boxes are moved with the image.

With the defaults of LIBRA.AUGMENTATION this is Detectron's preparation: read the image as BGR,
subtract PIXEL_MEANS, and resize the shorter side to the scale, or the longer side to the maximum if
it would exceed that.
"""

from __future__ import annotations

import cv2
import numpy as np

from detectron_ext.data.exif import warn_if_either_way
from detectron_ext.data.image_decoding import REFUSE, decode
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.errors import DatasetError
from detectron_ext.input_files import open_input
from detectron_ext.limits import MAX_IMAGE_BYTES

# The loader already uses several threads. Threads of OpenCV would be too many for the processors.
cv2.setNumThreads(0)

# A box with a smaller part of its area inside a crop shows too little to learn from.
MIN_VISIBLE_FRACTION = 0.3
_CROP_ATTEMPTS = 10


def decode_as_annotated(
    encoded: np.ndarray, size: tuple[int, int], deep: str = REFUSE
) -> np.ndarray:
    """Decode an image file, turned so that its annotations fit.

    The orientation in the EXIF tag of a photograph is applied, as in Detectron. It is not applied
    if only the unturned image has the annotated size.

    Args:
        encoded: (B,) uint8, the bytes of the file.
        size: annotated height and width in pixels.
        deep: as of :func:`detectron_ext.data.image_decoding.decode`, which tells the errors, too.
    """
    image = decode(encoded, deep=deep)
    if image.shape[:2] == size:
        return image
    unturned = decode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, deep)
    return unturned if unturned.shape[:2] == size else image


def read_file(
    path: str,
    size: tuple[int, int] | None = None,
    deep: str = REFUSE,
    dataset: str = "",
) -> np.ndarray:
    """Read an image file.

    Args:
        path: the file.
        size: annotated height and width; then the image is turned as :func:`decode_as_annotated`.
        deep: what more than 8 bits a channel become (LIBRA.DATA.DEEP_IMAGES).
        dataset: name of its data set, for a warning about photographs that may be turned wrongly;
            without it nothing is said.

    Returns:
        (height, width, 3) uint8, BGR.

    Raises:
        DatasetError: the file cannot be read or decoded. The message begins with its path.
    """
    try:
        with open_input(path, MAX_IMAGE_BYTES) as file:
            encoded = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    try:
        if size is None:
            return decode(encoded, deep=deep)
        image = decode_as_annotated(encoded, size, deep)
    except DatasetError as error:
        raise DatasetError(f"{path} {error}") from error
    if image.shape[:2] == size:
        warn_if_either_way(encoded, size, dataset)
    return image


def read_image(record: ImageRecord, deep: str = REFUSE) -> np.ndarray:
    """Read the image of a record, turned to fit its annotations and mirrored if the record is.

    Args:
        record: the image.
        deep: what more than 8 bits a channel become (LIBRA.DATA.DEEP_IMAGES).

    Returns:
        (height, width, 3) uint8, BGR.

    Raises:
        DatasetError: the file is missing, cannot be decoded, or does not have the annotated size.
    """
    size = (record.height, record.width)
    try:
        image = read_file(record.path, size, deep, record.dataset_name)
    except DatasetError as error:
        raise DatasetError(f"data set {record.dataset_name}: image {error}") from error
    if image.shape[:2] != size:
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise DatasetError(
            f"data set {record.dataset_name}: image {record.path} is {found} pixels, but annotated "
            f"as {size[1]}x{size[0]}"
        )
    return np.ascontiguousarray(image[:, ::-1]) if record.flipped else image


def resize_scale(height: int, width: int, target_size: float, max_size: float) -> float:
    """Return the factor that resizes an image as Detectron does.

    Args:
        height, width: size of the image in pixels.
        target_size: length of the shorter side after resizing, in pixels.
        max_size: largest length of the longer side after resizing; it takes precedence.
    """
    scale = float(target_size) / min(height, width)
    if np.round(scale * max(height, width)) > max_size:
        scale = float(max_size) / max(height, width)
    return scale


def resize_scales(
    heights: np.ndarray, widths: np.ndarray, target_size: float, max_size: float
) -> np.ndarray:
    """Return the :func:`resize_scale` of images with heights and widths (N,): (N,) float64."""
    longer = np.maximum(heights, widths).astype(np.float64)
    scales = float(target_size) / np.minimum(heights, widths)
    return np.where(np.round(scales * longer) > max_size, float(max_size) / longer, scales)


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Return height and width after :func:`resize`."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def subtract_means(image: np.ndarray, pixel_means: np.ndarray) -> np.ndarray:
    """Subtract the means of the channels from an image.

    Args:
        image: (height, width, 3) uint8, BGR.
        pixel_means: (1, 1, 3) mean blue, green and red (PIXEL_MEANS).

    Returns:
        (height, width, 3) float32.
    """
    # A table of the 256 values, computed in float64, gives the same bits as Detectron.
    means = np.asarray(pixel_means, dtype=np.float64).reshape(1, 1, 3)
    table = (np.arange(256).reshape(1, 256, 1) - means).astype(np.float32)
    return cv2.LUT(image, table)


def resize(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize with linear interpolation; sides are multiplied by scale and rounded (at least 1)."""
    if round(min(image.shape[:2]) * scale) < 1:
        height, width = scaled_size(image.shape[0], image.shape[1], scale)
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(image, None, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def flip_vertically(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror an image and its boxes top to bottom."""
    flipped = boxes.copy()
    flipped[:, 1] = image.shape[0] - boxes[:, 3] - 1
    flipped[:, 3] = image.shape[0] - boxes[:, 1] - 1
    return np.ascontiguousarray(image[::-1]), flipped


def rotate90(image: np.ndarray, boxes: np.ndarray, turns: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn an image and its boxes counter-clockwise by a number of quarter turns."""
    for _ in range(turns % 4):
        x1, y1, x2, y2 = boxes.T
        last_column = image.shape[1] - 1
        boxes = np.stack((y1, last_column - x2, y2, last_column - x1), axis=1)
        image = np.rot90(image)
    return np.ascontiguousarray(image), boxes


def jitter_color(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Vary brightness, contrast and saturation, each by a factor within 1 +- strength.

    Args:
        image: (height, width, 3) BGR, values 0 to 255.
        strength: largest relative change, in [0, 1]; 0 changes nothing.
        rng: generator for the three factors.

    Returns:
        (height, width, 3) float32, values 0 to 255.
    """
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, size=3)
    image = image.astype(np.float32) * np.float32(brightness)
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    image = cv2.addWeighted(image, saturation, cv2.merge((gray, gray, gray)), 1 - saturation, 0)
    mean = float(gray.mean())
    return np.clip((image - mean) * np.float32(contrast) + np.float32(mean), 0, 255)


def crop_boxes(
    boxes: np.ndarray, is_crowd: np.ndarray, window: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Move boxes into the coordinates of a crop.

    Args:
        boxes: (N, 4) float32 x1, y1, x2, y2 in pixels of the image.
        is_crowd: (N,) bool.
        window: left, top, width and height of the crop in pixels.

    Returns:
        boxes: (M, 4) float32, clipped to the crop. Boxes outside the crop are left out.
        is_crowd: (M,) bool. It is also True for a box with less than 30 % of its area inside, so
            that the box counts neither as an object nor as background.
        kept: (M,) int64 indices of the M boxes among the N.
    """
    left, top, width, height = window
    low = np.array([left, top], dtype=np.float32)
    last = np.array([width - 1, height - 1], dtype=np.float32)
    corner1, corner2 = boxes[:, :2] - low, boxes[:, 2:] - low
    clipped1, clipped2 = np.maximum(corner1, 0), np.minimum(corner2, last)
    inside = np.maximum(clipped2 - clipped1 + 1, 0).prod(axis=1)
    visible = inside / (corner2 - corner1 + 1).prod(axis=1)
    kept = np.nonzero(((clipped1 <= last) & (clipped2 >= 0)).all(axis=1) & (inside > 0))[0]
    cut = np.concatenate((clipped1, clipped2), axis=1)[kept]
    return cut, is_crowd[kept] | (visible[kept] < MIN_VISIBLE_FRACTION), kept


def choose_crop(
    boxes: np.ndarray,
    is_crowd: np.ndarray,
    size: tuple[int, int],
    crop_size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[int, int, int, int] | None:
    """Draw a crop window that shows an object.

    Args:
        boxes: (N, 4) float32 in pixels of the image.
        is_crowd: (N,) bool.
        size: height and width of the image in pixels.
        crop_size: height and width of the window, not larger than the image.
        rng: generator for the draws.

    Returns:
        left, top, width, height in pixels. None if 10 draws showed no object. In an image without
        objects the first draw is taken.
    """
    height, width = crop_size
    for _ in range(_CROP_ATTEMPTS):
        left = int(rng.integers(size[1] - width + 1))
        top = int(rng.integers(size[0] - height + 1))
        window = (left, top, width, height)
        if is_crowd.all() or not crop_boxes(boxes, is_crowd, window)[1].all():
            return window
    return None

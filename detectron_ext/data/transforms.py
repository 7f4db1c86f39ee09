"""From an image file to the array the network sees, with boxes moved along.

At the defaults of LIBRA.AUGMENTATION this is Detectron's preparation: read as BGR, subtract
PIXEL_MEANS, resize the shorter side to the scale unless the longer would exceed the maximum.
"""

from __future__ import annotations

import cv2
import numpy as np

from detectron_ext.data.image_record import ImageRecord
from detectron_ext.errors import DatasetError

# The loader's threads are the parallelism; OpenCV's own would oversubscribe the processors.
cv2.setNumThreads(0)

# A box with less of its area inside a crop than this is too little to learn from.
MIN_VISIBLE_FRACTION = 0.3
_CROP_ATTEMPTS = 10


def decode(encoded: np.ndarray, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """An image file's bytes (B,) uint8 as (height, width, 3) uint8, BGR.

    None where they are not an image that OpenCV decodes, or one of more pixels than it takes.
    """
    try:
        return cv2.imdecode(encoded, flags) if len(encoded) else None
    except cv2.error:  # more than OPENCV_IO_MAX_IMAGE_PIXELS
        return None


def decode_as_annotated(encoded: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """An image file's bytes as :func:`decode` gives it, turned so that its annotations fit.

    The orientation that a photograph's EXIF tag asks for is applied, as Detectron does, unless
    only the untouched pixels have the size (height, width) that the annotations were made for.
    """
    image = decode(encoded)
    if image is None or image.shape[:2] == size:
        return image
    unturned = decode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return unturned if unturned is not None and unturned.shape[:2] == size else image


def read_file(path: str, size: tuple[int, int] | None = None) -> np.ndarray | None:
    """An image file as :func:`decode` gives it; None also where it cannot be read.

    With the size (height, width) that it is annotated as, as :func:`decode_as_annotated` gives it.
    """
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError:
        return None
    return decode(encoded) if size is None else decode_as_annotated(encoded, size)


def read_image(record: ImageRecord) -> np.ndarray:
    """Read a record's image, turned as :func:`decode_as_annotated` says, mirrored if the record is.

    Returns:
        (height, width, 3) uint8, BGR.

    Raises:
        DatasetError: the file is missing, cannot be decoded, or has another size than annotated.
    """
    where = f"data set {record.dataset_name}: image {record.path}"
    size = (record.height, record.width)
    try:
        encoded = np.fromfile(record.path, dtype=np.uint8)
    except OSError as error:
        raise DatasetError(f"{where} cannot be read: {error.strerror}") from error
    image = decode_as_annotated(encoded, size)
    if image is None:
        raise DatasetError(f"{where} is not an image that OpenCV can decode")
    if image.shape[:2] != size:
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise DatasetError(f"{where} is {found} pixels, but annotated as {size[1]}x{size[0]}")
    return np.ascontiguousarray(image[:, ::-1]) if record.flipped else image


def resize_scale(height: int, width: int, target_size: int, max_size: int) -> float:
    """Factor that brings the shorter side to target_size, the longer to at most max_size."""
    scale = float(target_size) / min(height, width)
    if np.round(scale * max(height, width)) > max_size:
        scale = float(max_size) / max(height, width)
    return scale


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width after :func:`resize`."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def subtract_means(image: np.ndarray, pixel_means) -> np.ndarray:
    """Take the mean of each BGR channel from a (height, width, 3) uint8 image; float32."""
    # Each of the 256 levels once, in double precision as Detectron, so the last bit agrees too.
    means = np.asarray(pixel_means, dtype=np.float64).reshape(1, 1, 3)
    table = (np.arange(256).reshape(1, 256, 1) - means).astype(np.float32)
    return cv2.LUT(image, table)


def resize(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize with linear interpolation; each side becomes the rounded product, at least 1."""
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
        strength: 0 changes nothing; sensible below 1.

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
    """Move boxes into a crop.

    Args:
        boxes: (N, 4) float32.
        is_crowd: (N,) bool.
        window: left, top, width, height of the crop, in pixels.

    Returns:
        boxes: (M, 4) float32, clipped to the crop; those wholly outside are gone.
        is_crowd: (M,) bool; also true for a box with under 30 % of its area inside, so that it
            counts neither as an object nor as background.
        kept: (M,) int64, which of the N they were.
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
    """Draw a crop window that still shows an object.

    Args:
        boxes: (N, 4) in the image's pixels.
        is_crowd: (N,) bool.
        size: height, width of the image.
        crop_size: height, width of the window, no larger than the image.

    Returns:
        left, top, width, height; None when several draws showed no object. An image that has
        none to begin with takes the first draw.
    """
    height, width = crop_size
    for _ in range(_CROP_ATTEMPTS):
        left = int(rng.integers(size[1] - width + 1))
        top = int(rng.integers(size[0] - height + 1))
        window = (left, top, width, height)
        if is_crowd.all() or not crop_boxes(boxes, is_crowd, window)[1].all():
            return window
    return None

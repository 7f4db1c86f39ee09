"""Drawing of one digit scene: handwritten digits of many sizes on a cluttered background.

A scene depends only on its random generator and the digit images. Sizes are in pixels. Boxes are x,
y, width, height with the top left corner x, y, as in COCO.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from detectron_ext.data.digit_backgrounds import (
    LUMA_BGR,
    add_clutter,
    blend,
    colour_of_luma,
    make_background,
)

SCENE_SIZE = 256
DIGITS_PER_SCENE = (2, 8)
INK_HEIGHT = (12.0, 160.0)
MAX_INK_WIDTH = 200.0
MAX_COVERED = 0.15
MAX_ROTATION = np.deg2rad(14)
MAX_SHEAR = 0.18
# A pixel with at least this opacity is ink and inside the digit's box.
INK_OPACITY = 0.35
_PLACEMENT_TRIES = 60


@dataclass(frozen=True)
class Glyph:
    """A drawn digit: opacity (h, w) float32 in 0..1, and the box (x, y, w, h) of its ink."""

    opacity: np.ndarray
    ink: tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """A finished scene.

    Attributes:
        image: (S, S, 3) uint8, BGR.
        boxes: (K, 4) int64 x, y, width, height, tight around the ink.
        labels: (K,) int64, the digits 0 to 9.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def render_scene(rng: np.random.Generator, digits: np.ndarray, labels: np.ndarray) -> Scene:
    """Draw one scene.

    At most MAX_COVERED of the area of a digit's box is covered by other boxes.

    Args:
        rng: generator for all random choices.
        digits: (N, 28, 28) uint8, white ink on black.
        labels: (N,) the digit in each image, 0 to 9.
    """
    glyphs, boxes, shown = _compose(rng, digits, labels)
    image = add_clutter(rng, make_background(rng, SCENE_SIZE), digits)
    for glyph, box in zip(glyphs, boxes):
        _paint(rng, image, glyph, box)
    return Scene(_add_noise(rng, image), boxes, shown)


def covered_fraction(boxes: np.ndarray) -> np.ndarray:
    """Return an upper bound of the fraction of each box (K, 4) that other boxes cover: (K,)
    float64.

    The overlaps with all other boxes are added, so that the bound may be above 1.
    """
    boxes = boxes.astype(np.float64)
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    shared = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    overlap = np.clip(shared, 0, None).prod(axis=2)
    np.fill_diagonal(overlap, 0)
    return overlap.sum(axis=1) / boxes[:, 2:].prod(axis=1)


def _compose(
    rng: np.random.Generator, digits: np.ndarray, labels: np.ndarray
) -> tuple[list[Glyph], np.ndarray, np.ndarray]:
    """Choose digits and their places: glyphs, ink boxes (K, 4) int64 and labels (K,) int64.

    The tallest digits come first, because they are the hardest to place. Small ones are painted
    over them.
    """
    while True:
        count = int(rng.integers(DIGITS_PER_SCENE[0], DIGITS_PER_SCENE[1] + 1))
        # Square roots are drawn evenly: small digits are frequent, but not too frequent.
        low, high = np.sqrt(INK_HEIGHT)
        heights = np.sort(rng.uniform(low, high, count) ** 2)[::-1]
        glyphs, boxes, shown = [], np.zeros((0, 4), np.int64), []
        for height, index in zip(heights, rng.integers(0, len(digits), count)):
            glyph = render_glyph(rng, digits[index], height)
            box = _place(rng, glyph, boxes)
            if box is not None:
                glyphs.append(glyph)
                boxes = np.concatenate([boxes, box[None]])
                shown.append(int(labels[index]))
        if len(glyphs) >= DIGITS_PER_SCENE[0]:
            return glyphs, boxes, np.array(shown, np.int64)


def render_glyph(rng: np.random.Generator, digit: np.ndarray, height: float) -> Glyph:
    """Draw a digit (28, 28) uint8 with ink about `height` pixels tall, turned and sheared.

    Very wide digits are smaller: their ink is at most about MAX_INK_WIDTH pixels wide.
    """
    linear = _random_linear_map(rng)
    ys, xs = np.nonzero(digit > 80)
    corners = np.concatenate([np.stack([xs + dx, ys + dy]) for dx in (0, 1) for dy in (0, 1)], 1)
    moved = linear @ corners
    low, high = moved.min(axis=1), moved.max(axis=1)
    scale = min(height / (high[1] - low[1]), MAX_INK_WIDTH / (high[0] - low[0]))
    blur = rng.uniform(0.25, 0.3 + 0.015 * height)
    # Space for the blur, and for the faint pixels around those that count as ink.
    margin = int(np.ceil(3 * blur + 2 * scale)) + 2
    # Small digits are drawn several times larger and averaged, so that strokes are not interrupted.
    zoom = 4 if height < 48 else 2 if height < 96 else 1
    width, tall = (np.ceil((high - low) * scale).astype(int) + 2 * margin).tolist()
    matrix = np.empty((2, 3))
    matrix[:, :2] = linear * scale * zoom
    # In warpAffine pixel centres are whole numbers; in our coordinates they are halves.
    matrix[:, 2] = (margin - low * scale) * zoom + matrix[:, :2] @ [0.5, 0.5] - 0.5
    opacity = cv2.warpAffine(
        digit.astype(np.float32) / 255, matrix, (width * zoom, tall * zoom), flags=cv2.INTER_CUBIC
    )
    opacity = cv2.GaussianBlur(opacity, (0, 0), max(0.3 * scale * zoom, 0.1))
    middle = rng.uniform(0.34, 0.46)
    opacity = np.clip((opacity - middle + 0.12) / 0.24, 0, 1)
    opacity = cv2.resize(opacity, (width, tall), interpolation=cv2.INTER_AREA)
    opacity = cv2.GaussianBlur(opacity, (0, 0), blur)
    opacity *= rng.uniform(0.88, 1.0) / opacity.max()
    return Glyph(opacity, tight_box(opacity))


def tight_box(opacity: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box x, y, width, height of the pixels with at least INK_OPACITY."""
    ys, xs = np.nonzero(opacity >= INK_OPACITY)
    x, y = int(xs.min()), int(ys.min())
    return x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y


def _random_linear_map(rng: np.random.Generator) -> np.ndarray:
    """Return the matrix (2, 2) of a slight rotation, shear and change of proportions."""
    angle = rng.uniform(-MAX_ROTATION, MAX_ROTATION)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.uniform(-MAX_SHEAR, MAX_SHEAR)], [0.0, 1.0]])
    return turn @ shear @ np.diag([rng.uniform(0.85, 1.2), 1.0])


def _place(rng: np.random.Generator, glyph: Glyph, boxes: np.ndarray) -> np.ndarray | None:
    """Return a place for the glyph's ink box with small overlaps; None if there is none."""
    _, _, width, height = glyph.ink
    for _ in range(_PLACEMENT_TRIES):
        x = rng.integers(2, SCENE_SIZE - width - 1)
        y = rng.integers(2, SCENE_SIZE - height - 1)
        box = np.array([x, y, width, height], np.int64)
        if covered_fraction(np.concatenate([boxes, box[None]])).max() <= MAX_COVERED:
            return box
    return None


def _paint(rng: np.random.Generator, image: np.ndarray, glyph: Glyph, box: np.ndarray) -> None:
    """Paint the glyph into the image, its ink in the box, in a colour with enough contrast."""
    mask = np.zeros(image.shape[:2], np.float32)
    _blit(mask, glyph.opacity, box[0] - glyph.ink[0], box[1] - glyph.ink[1])
    x, y, width, height = box
    contrast = np.interp(np.log(height), np.log([12, 80]), [105, 60])
    around = image[y : y + height, x : x + width].reshape(-1, 3) @ LUMA_BGR
    dark, bright = np.percentile(around, [8, 92])
    room = {-1: dark, 1: 255 - bright}
    signs = [sign for sign in room if room[sign] > contrast + 5]
    if signs:
        sign = int(rng.choice(signs))
        edge = dark if sign < 0 else bright
        luma = edge + sign * rng.uniform(contrast, min(room[sign], 190))
        blend(image, mask, colour_of_luma(rng, luma, 80 if height > 24 else 50))
        return
    # No colour has enough contrast to the background: add an outline.
    sign = int(rng.choice([-1, 1]))
    outline = cv2.GaussianBlur(cv2.dilate(mask, np.ones((3, 3)), iterations=2), (0, 0), 0.8)
    blend(image, outline, colour_of_luma(rng, 128 - sign * rng.uniform(75, 110), 30))
    blend(image, mask, colour_of_luma(rng, 128 + sign * rng.uniform(75, 110), 30))


def _blit(mask: np.ndarray, opacity: np.ndarray, left: int, top: int) -> None:
    """Copy `opacity` into `mask` with this top left corner; the part outside is cut off."""
    x0, y0 = max(left, 0), max(top, 0)
    x1 = min(left + opacity.shape[1], mask.shape[1])
    y1 = min(top + opacity.shape[0], mask.shape[0])
    mask[y0:y1, x0:x1] = opacity[y0 - top : y1 - top, x0 - left : x1 - left]


def _add_noise(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add noise like that of a camera, and round to uint8."""
    grain = rng.normal(0, rng.uniform(0, 5), image.shape[:2]).astype(np.float32)
    return np.clip(np.round(image + grain[..., None]), 0, 255).astype(np.uint8)

"""Backgrounds of the digit scenes: gradients, textures, and clutter that has no label.

Images are (S, S, 3) float32, BGR, in 0..255, until the scene is finished.
"""

from __future__ import annotations

import cv2
import numpy as np

# Rec. 601 weights of blue, green, red: the perceived brightness.
LUMA_BGR = np.array([0.114, 0.587, 0.299], dtype=np.float32)


def colour_of_luma(rng: np.random.Generator, luma: float, saturation: float) -> np.ndarray:
    """Draw a random BGR colour of about the given brightness.

    `luma` is in 0..255; `saturation` is the largest channel offset before clipping (0 gives grey).
    Clipping at 0 and 255 may move the brightness a little.
    """
    tint = rng.uniform(-saturation, saturation, 3)
    tint -= tint @ LUMA_BGR
    return np.clip(luma + tint, 0, 255).astype(np.float32)


def make_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a linear gradient with one of several textures on it."""
    luma = rng.uniform(35, 220)
    start = colour_of_luma(rng, luma, 60)
    end = start + rng.uniform(-35, 35) + rng.uniform(-15, 15, 3)
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    along = 0.5 + columns * np.cos(angle) + rows * np.sin(angle)
    image = start + along[..., None] * (end - start)
    textures = (_no_texture, _clouds, _stripes, _checks)
    image += textures[rng.integers(len(textures))](rng, size)[..., None]
    return np.clip(image, 0, 255).astype(np.float32)


def add_clutter(rng: np.random.Generator, image: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """Paint on the image, and return it blurred: lines, blobs, curved strokes and pieces of digits.

    `digits` (N, 28, 28) uint8 are the images that the pieces are cut from.
    """
    for paint, most in ((_blob, 4), (_line, 4), (_stroke, 2), (_fragment, 2)):
        for _ in range(rng.integers(0, most + 1)):
            mask = paint(rng, image.shape[0], digits)
            ys, xs = np.nonzero(mask > 0.2)
            if len(ys) == 0:
                continue
            luma = float((image[ys, xs] @ LUMA_BGR).mean())
            # Clutter has less contrast than any digit, so that it can be told from digits.
            step = rng.uniform(12, 40) * rng.choice([-1, 1])
            blend(image, mask, colour_of_luma(rng, luma + step, 45))
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.5))


def blend(image: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    """Paint `colour` (3,) on `image` (H, W, 3), in place, with opacity `mask` (H, W) in 0..1."""
    x, y, w, h = cv2.boundingRect((mask > 0).astype(np.uint8))
    part = image[y : y + h, x : x + w]
    part += mask[y : y + h, x : x + w, None] * (colour - part)


def _no_texture(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.zeros((size, size), np.float32)


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    total = np.zeros((size, size), np.float32)
    for cells in (4, 9, 24, 64):
        grid = rng.normal(0, 1, (cells, cells)).astype(np.float32)
        total += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) / np.sqrt(cells)
    return total * rng.uniform(6, 18)


def _waves(rng: np.random.Generator, size: int, angle: float) -> np.ndarray:
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    phase = (columns * np.cos(angle) + rows * np.sin(angle)) / rng.uniform(8, 50)
    sharpness = rng.uniform(1, 8)
    return np.tanh(sharpness * np.sin(2 * np.pi * phase)) / np.tanh(sharpness)


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.uniform(3, 12) * _waves(rng, size, rng.uniform(0, np.pi))


def _checks(rng: np.random.Generator, size: int) -> np.ndarray:
    angle = rng.uniform(0, np.pi)
    amplitude = rng.uniform(3, 10)
    return amplitude * _waves(rng, size, angle) * _waves(rng, size, angle + np.pi / 2)


def _blob(rng: np.random.Generator, size: int, digits: np.ndarray) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    centre = tuple(int(v) for v in rng.integers(0, size, 2))
    axes = tuple(int(v) for v in rng.integers(4, 55, 2))
    cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 6))


def _line(rng: np.random.Generator, size: int, digits: np.ndarray) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    first, last = (tuple(int(v) for v in rng.integers(-20, size + 20, 2)) for _ in range(2))
    cv2.line(mask, first, last, 1.0, int(rng.integers(1, 5)), cv2.LINE_AA)
    return mask


def _stroke(rng: np.random.Generator, size: int, digits: np.ndarray) -> np.ndarray:
    """Return the mask of a quadratic Bezier curve, like a pen stroke."""
    mask = np.zeros((size, size), np.float32)
    reach = rng.uniform(20, 120)
    ends = rng.uniform(0, size, 2) + rng.uniform(-reach, reach, (3, 2))
    t = np.linspace(0, 1, 24)[:, None]
    curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
    points = np.round(curve).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(mask, [points], False, 1.0, int(rng.integers(1, 5)), cv2.LINE_AA)
    return mask


def _fragment(rng: np.random.Generator, size: int, digits: np.ndarray) -> np.ndarray:
    """Return the mask of a small piece of a digit: real pen strokes that are not a digit."""
    mask = np.zeros((size, size), np.float32)
    row, column = (int(v) for v in rng.integers(5, 16, 2))
    piece = digits[rng.integers(len(digits))][row : row + 8, column : column + 8]
    side = int(rng.integers(14, 50))
    piece = cv2.resize(piece.astype(np.float32) / 255, (side, side), interpolation=cv2.INTER_LINEAR)
    y, x = (int(v) for v in rng.integers(0, size - side, 2))
    mask[y : y + side, x : x + side] = np.rot90(piece, int(rng.integers(4)))
    return mask

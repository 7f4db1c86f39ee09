"""Drawing boxes with class and score on images, panels and contact sheets.

Images are (H, W, 3) uint8 in OpenCV's BGR order. Boxes are COCO annotations or results: dicts
with bbox (x, y, width, height in pixels), category_id and, for detections, score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from detectron_ext.errors import UserError

# Colours that colour-blind people can distinguish: Okabe and Ito's (without black), then four of
# Paul Tol's, as BGR.
PALETTE = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (178, 114, 0),
    (0, 94, 213),
    (167, 121, 204),
    (153, 170, 68),
    (136, 34, 51),
    (85, 34, 136),
    (51, 119, 153),
)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP = 6
# Longest side of a picture in pixels: it is at most 50 MB in memory and can be looked at.
LONGEST = 4096
_PAPER = (255, 255, 255)


class _Style(NamedTuple):
    """Sizes for an image: line width in pixels, OpenCV's font scale, width of text lines."""

    line: int
    font_scale: float
    text_line: int


def class_colour(category_id: int) -> tuple[int, int, int]:
    """Return the BGR colour of a category; colours repeat after len(PALETTE) categories."""
    return PALETTE[category_id % len(PALETTE)]


def draw_boxes(
    image: np.ndarray,
    annotations: Sequence[Mapping],
    class_names: Mapping[int, str],
    min_score: float = 0.0,
) -> np.ndarray:
    """Return a copy of the image with each box, its class, "(crowd)" if it is one, and its score.

    Labels are placed where they hide the least of other boxes and labels. OpenCV draws only ASCII
    characters. Another character becomes a question mark for each byte of its UTF-8 code.

    Args:
        image: (H, W, 3) uint8, BGR.
        annotations: COCO annotations or results. Higher scores are drawn on top.
        class_names: category id to name; a category without a name is labelled with its id. A box
            gets no label if its name is "" and it has no score.
        min_score: annotations with a lower score are left out.

    Raises:
        ValueError: the image is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an (H, W, 3) uint8 image, got {image.shape} {image.dtype}")
    canvas = image.copy()
    shown = [a for a in annotations if a.get("score", 1.0) >= min_score]
    shown.sort(key=lambda a: a.get("score", 1.0))
    style = _style(image)
    boxes = np.array([_corners(a["bbox"]) for a in shown], float).reshape(-1, 4)
    for (x0, y0, x1, y1), annotation in zip(boxes, shown):
        first = (int(round(x0)), int(round(y0)))
        last = (int(round(x1)) - 1, int(round(y1)) - 1)
        _outlined_rectangle(canvas, first, last, class_colour(annotation["category_id"]), style)
    taken = np.zeros((0, 4))
    # The best scores come first and get the best places.
    for box, annotation in list(zip(boxes, shown))[::-1]:
        text = class_names.get(annotation["category_id"], str(annotation["category_id"]))
        if annotation.get("iscrowd"):
            text += " (crowd)"
        if "score" in annotation:
            text = f"{text} {annotation['score']:.2f}"
        text = opencv_text(text)
        if not text:
            continue
        place = _label_place(text, box, boxes, taken, canvas.shape, style)
        _draw_label(canvas, text, place, class_colour(annotation["category_id"]), style)
        taken = np.concatenate([taken, place[None]])
    return canvas


def fit(
    image: np.ndarray,
    annotations: Sequence[Mapping],
    min_side: int = 0,
    columns: int = 1,
    longest: int = LONGEST,
) -> tuple[np.ndarray, list[dict]]:
    """Enlarge a small image with its boxes, and reduce a large one.

    Args:
        image: (H, W, 3) uint8, BGR.
        annotations: COCO annotations or results.
        min_side: a shorter side below this many pixels is enlarged to it, so that labels are
            readable; 0 enlarges nothing.
        columns: number of such images that stand side by side.
        longest: greatest height of the image, and width of all columns together, in pixels. It
            takes precedence, so that a narrow image does not fill the memory.

    Returns:
        The image, each side at least 1 pixel, and copies of the annotations with scaled boxes.
    """
    height, width = image.shape[:2]
    scale = min(max(1.0, min_side / min(height, width)), _largest_scale(image, columns, longest))
    if scale == 1:
        return image, [dict(a) for a in annotations]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    resized = cv2.resize(image, size, interpolation=method)
    return resized, [{**a, "bbox": [v * scale for v in a["bbox"]]} for a in annotations]


def is_too_large(image: np.ndarray, columns: int = 1) -> bool:
    """Return whether :func:`fit` reduces an image, by which its picture loses detail."""
    return _largest_scale(image, columns, LONGEST) < 1


def _largest_scale(image: np.ndarray, columns: int, longest: int) -> float:
    return min(longest / image.shape[0], longest / columns / image.shape[1])


def encoded(image: np.ndarray, suffix: str = ".png") -> bytes:
    """Return the bytes of an image file.

    Args:
        image: (H, W, 3) uint8, BGR.
        suffix: the extension with its dot, which decides the format.

    Raises:
        UserError: OpenCV cannot write the format, or not an image of this size.
    """
    try:
        done, data = cv2.imencode(opencv_text(suffix), image)
    except cv2.error:
        done = False
    if not done:
        height, width = image.shape[:2]
        raise UserError(f"cannot write a picture of {width}x{height} pixels as {suffix}: use png")
    return data.tobytes()


def opencv_text(text: str) -> str:
    """Return text with "?" for what UTF-8 does not have; OpenCV ends the process for such text.

    File names that are not UTF-8 and class names of a JSON file can hold it.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def titled(image: np.ndarray, title: str) -> np.ndarray:
    """Return the image below a white strip with a title."""
    title = opencv_text(title)
    style = _style(image)
    (width, height), base = cv2.getTextSize(title, _FONT, style.font_scale * 1.2, style.text_line)
    scale = style.font_scale * 1.2 * min(1.0, (image.shape[1] - 8) / max(width, 1))
    strip = np.full((height + base + 10, image.shape[1], 3), 255, np.uint8)
    cv2.putText(
        strip, title, (4, height + 5), _FONT, scale, (30, 30, 30), style.text_line, cv2.LINE_AA
    )
    return np.concatenate([strip, image])


def side_by_side(
    image: np.ndarray,
    truth: Sequence[Mapping],
    detections: Sequence[Mapping],
    class_names: Mapping[int, str],
    min_score: float = 0.5,
    min_side: int = 480,
) -> np.ndarray:
    """Return the image with its ground truth and, on the right, with its detections.

    Args:
        image: (H, W, 3) uint8, BGR.
        truth: COCO annotations.
        detections: COCO results.
        class_names: category id to name.
        min_score: lowest score of a detection that is drawn.
        min_side: as of :func:`fit`, which also limits the size.
    """
    panels = []
    for title, boxes, least in (
        ("ground truth", truth, 0.0),
        (f"detections, score {min_score:g} and above", detections, min_score),
    ):
        fitted, scaled = fit(image, boxes, min_side, columns=2)
        panels.append(titled(draw_boxes(fitted, scaled, class_names, least), title))
    return contact_sheet(panels, columns=2)


def contact_sheet(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Return images in rows on white; each cell is as large as the largest image.

    Raises:
        ValueError: there are no images, or columns is below 1.
    """
    if not images or columns < 1:
        raise ValueError(f"a sheet of {len(images)} images in {columns} columns")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    shape = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3)
    sheet = np.full(shape, _PAPER, np.uint8)
    for index, image in enumerate(images):
        top = index // columns * (height + _GAP)
        left = index % columns * (width + _GAP)
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def _style(image: np.ndarray) -> _Style:
    side = min(image.shape[:2])
    line = 1 + side // 360
    # Letters are 8 pixels high in an image of 256 pixels, the smallest readable size, and 22 in one
    # of 1200.
    font_scale = float(np.clip(side / 1100, 0.36, 2.0))
    return _Style(line, font_scale, max(1, int(round(font_scale * 1.6))))


def _corners(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = bbox
    return x, y, x + width, y + height


def _outlined_rectangle(
    canvas: np.ndarray,
    first: tuple[int, int],
    last: tuple[int, int],
    colour: tuple[int, int, int],
    style: _Style,
) -> None:
    """Draw a rectangle around pixels, with a dark rim for contrast.

    The line is outside of these pixels, so that it does not hide a small object.

    Args:
        canvas: (H, W, 3) uint8 image to draw on.
        first, last: (x, y) of the upper left and the lower right one of these pixels.
        colour: BGR.
        style: sizes of lines and text.
    """
    away = style.line // 2 + 1
    for distance, ink in ((away + 1, (20, 20, 20)), (away, colour)):
        low = (first[0] - distance, first[1] - distance)
        high = (last[0] + distance, last[1] + distance)
        cv2.rectangle(canvas, low, high, ink, style.line)


def _label_place(
    text: str,
    box: np.ndarray,
    boxes: np.ndarray,
    taken: np.ndarray,
    shape: tuple[int, ...],
    style: _Style,
) -> np.ndarray:
    """Return the place where a label hides least: (4,) x0, y0, x1, y1 in whole pixels.

    Args:
        text: the label.
        box: (4,) x0, y0, x1, y1 of the box that the label is for.
        boxes: (N, 4), all boxes.
        taken: (M, 4), places of labels that are drawn already.
        shape: shape of the image.
        style: sizes of lines and text.
    """
    (width, height), base = cv2.getTextSize(text, _FONT, style.font_scale, style.text_line)
    width, height = width + 4, height + base + 2
    x0, y0, x1, y1 = box
    edge = style.line + 1
    corners = [
        (x0 - edge, y0 - height - edge),
        (x0 - edge, y1 + edge),
        (x1 + edge, y0),
        (x0 - width - edge, y0),
        (x1 - width, y0 - height - edge),
        (x1 - width, y1 + edge),
        (x0 + edge, y0 + edge),
    ]
    best, least = np.zeros(4), np.inf
    for rank, (x, y) in enumerate(corners):
        x = np.clip(round(x), 0, max(shape[1] - width, 0))
        y = np.clip(round(y), 0, max(shape[0] - height, 0))
        place = np.array([x, y, x + width, y + height])
        # Hiding a label is worse than hiding a part of a box. The first of equal places is chosen.
        cost = 4 * _overlap(place, taken) + _overlap(place, boxes) + rank
        if cost < least:
            best, least = place, cost
    return best


def _overlap(place: np.ndarray, others: np.ndarray) -> float:
    """Return the sum of the areas in pixels that `place` shares with each other rectangle."""
    low = np.maximum(place[:2], others[:, :2])
    high = np.minimum(place[2:], others[:, 2:])
    return float(np.clip(high - low, 0, None).prod(axis=1).sum())


def _draw_label(
    canvas: np.ndarray,
    text: str,
    place: np.ndarray,
    colour: tuple[int, int, int],
    style: _Style,
) -> None:
    x0, y0, x1, y1 = (int(v) for v in place)
    cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), colour, -1)
    (_, height), _ = cv2.getTextSize(text, _FONT, style.font_scale, style.text_line)
    brightness = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2]
    ink = (0, 0, 0) if brightness > 110 else (255, 255, 255)
    origin = (x0 + 2, y0 + height + 1)
    cv2.putText(canvas, text, origin, _FONT, style.font_scale, ink, style.text_line, cv2.LINE_AA)

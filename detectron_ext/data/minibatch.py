"""Network inputs of one minibatch: images read, augmented, scaled and padded into one blob."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Sequence

import numpy as np

from detectron_ext.data import transforms
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.proposals import usable_proposals
from detectron_ext.errors import DatasetError

_LOG = logging.getLogger(__name__)


@dataclass
class ImageSample:
    """An image as the network sees it, before padding.

    Attributes:
        image: (height, width, 3) float32, BGR, means subtracted.
        scale: network pixels per pixel of the image file.
        boxes: (N, 4) float32 ground truth in network pixels.
        classes: (N,) int32, 1-based.
        is_crowd: (N,) bool: neither object nor background.
        proposals: (P, 4) float32 precomputed proposals in network pixels, best first.
        record: where it came from.
    """

    image: np.ndarray
    scale: float
    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    proposals: np.ndarray
    record: ImageRecord | None


def load_sample(
    record: ImageRecord, config, rng: np.random.Generator | None, train: bool
) -> ImageSample:
    """Read one image and prepare it as Detectron does, with LIBRA.AUGMENTATION in training.

    Args:
        record: the image.
        config: PIXEL_MEANS; TRAIN.SCALES (one is drawn) and TRAIN.MAX_SIZE, or TEST.SCALE,
            TEST.MAX_SIZE and TEST.PROPOSAL_LIMIT; LIBRA.AUGMENTATION.
        rng: source of every random choice; may be None for testing, which makes none.
        train: training or testing.

    Raises:
        DatasetError: the image is missing, cannot be decoded or has another size than annotated.
    """
    image = transforms.read_image(record)
    if train:
        assert rng is not None, "training draws random scales"
        return _training_sample(record, image, config, rng)
    sample = prepare_image(image, config, usable_proposals(record, config.TEST.PROPOSAL_LIMIT))
    boxes = record.boxes * np.float32(sample.scale)
    return replace(
        sample, boxes=boxes, classes=record.classes, is_crowd=record.is_crowd, record=record
    )


def prepare_image(image: np.ndarray, config, proposals: np.ndarray | None = None) -> ImageSample:
    """Prepare one image for testing.

    Args:
        image: (height, width, 3) uint8, BGR.
        config: PIXEL_MEANS, TEST.SCALE, TEST.MAX_SIZE.
        proposals: (P, 4) in the image's pixels.

    Returns:
        A sample without ground truth or record.
    """
    height, width = image.shape[:2]
    scale = transforms.resize_scale(height, width, config.TEST.SCALE, config.TEST.MAX_SIZE)
    image = transforms.resize(transforms.subtract_means(image, config.PIXEL_MEANS), scale)
    none = np.zeros((0, 4), dtype=np.float32)
    return ImageSample(
        image=image,
        scale=scale,
        boxes=none,
        classes=np.zeros(0, dtype=np.int32),
        is_crowd=np.zeros(0, dtype=bool),
        proposals=none if proposals is None else proposals * np.float32(scale),
        record=None,
    )


def _training_sample(
    record: ImageRecord, image: np.ndarray, config, rng: np.random.Generator
) -> ImageSample:
    options = config.LIBRA.AUGMENTATION
    target_size = config.TRAIN.SCALES[int(rng.integers(len(config.TRAIN.SCALES)))]
    # Objects and proposals move as one, so that each transformation is said once.
    num_objects = len(record.boxes)
    both = np.concatenate((record.boxes, usable_proposals(record)))
    image, both = _flip_and_turn(image, both, options, rng)
    boxes, proposals = both[:num_objects], both[num_objects:]
    scale, window = _choose_scale(image, boxes, record.is_crowd, target_size, config, rng)
    image = transforms.resize(transforms.subtract_means(image, config.PIXEL_MEANS), scale)
    boxes, proposals = boxes * np.float32(scale), proposals * np.float32(scale)
    classes, is_crowd = record.classes, record.is_crowd
    if window is not None:
        left, top, width, height = window
        image = image[top : top + height, left : left + width]
        boxes, is_crowd, kept = transforms.crop_boxes(boxes, is_crowd, window)
        classes = classes[kept]
        proposals, _, _ = transforms.crop_boxes(
            proposals, np.zeros(len(proposals), dtype=bool), window
        )
    if options.COLOR_JITTER > 0:
        # Last, when the image is at its smallest.
        means = np.asarray(config.PIXEL_MEANS, dtype=np.float32).reshape(1, 1, 3)
        image = transforms.jitter_color(image + means, options.COLOR_JITTER, rng) - means
    return ImageSample(image, scale, boxes, classes, is_crowd, proposals, record)


def _flip_and_turn(
    image: np.ndarray, boxes: np.ndarray, options, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Apply LIBRA.AUGMENTATION's flips and turns; an option that is off draws no number."""
    if options.FLIP_VERTICAL and rng.random() < 0.5:
        image, boxes = transforms.flip_vertically(image, boxes)
    if options.ROTATE90:
        image, boxes = transforms.rotate90(image, boxes, int(rng.integers(4)))
    return image, boxes


def _choose_scale(
    image: np.ndarray,
    boxes: np.ndarray,
    is_crowd: np.ndarray,
    target_size: int,
    config,
    rng: np.random.Generator,
) -> tuple[float, tuple[int, int, int, int] | None]:
    """Draw the scale, and with CROP the window that keeps the network's input at its usual size.

    Without CROP a larger scale is capped by TRAIN.MAX_SIZE as always. Where no window shows an
    object, the image keeps its usual scale and is not cropped.
    """
    options = config.LIBRA.AUGMENTATION
    height, width = image.shape[:2]
    usual = transforms.resize_scale(height, width, target_size, config.TRAIN.MAX_SIZE)
    low, high = options.SCALE_RANGE
    if low == high == 1:
        return usual, None
    scale = usual * float(rng.uniform(low, high))
    if not options.CROP:
        longest_allowed = float(config.TRAIN.MAX_SIZE) / max(height, width)
        return min(scale, max(usual, longest_allowed)), None
    size = transforms.scaled_size(height, width, scale)
    crop_size = transforms.scaled_size(height, width, usual)
    if size[0] <= crop_size[0] and size[1] <= crop_size[1]:
        return scale, None
    window = transforms.choose_crop(boxes * np.float32(scale), is_crowd, size, crop_size, rng)
    return (usual, None) if window is None else (scale, window)


def load_samples(
    records: Sequence[ImageRecord], indices: Sequence[int], config, rng: np.random.Generator
) -> list[ImageSample]:
    """Load the training samples of one minibatch.

    With LIBRA.DATA.SKIP_BAD_IMAGES an image that cannot be used is named in one warning, and the
    next record that can takes its place, so the minibatch keeps its size and the choice stays
    the same in every run.

    Raises:
        DatasetError: an image cannot be used and is not to be skipped, or none can be used.
    """
    samples = []
    for index in indices:
        for step in range(len(records)):
            record = records[(index + step) % len(records)]
            try:
                samples.append(load_sample(record, config, rng, train=True))
                break
            except DatasetError as error:
                if not config.LIBRA.DATA.SKIP_BAD_IMAGES:
                    raise DatasetError(
                        f"{error}; LIBRA.DATA.SKIP_BAD_IMAGES True goes on without it"
                    ) from error
                _warn_once(str(error))
        else:
            raise DatasetError("no training image can be read; the warnings above name them")
    return samples


@lru_cache(maxsize=None)
def _warn_once(message: str) -> None:
    """Name a skipped image the first time only: it would come up again in every epoch."""
    _LOG.warning("skipped: %s", message)


def image_blobs(samples: Sequence[ImageSample], config, train: bool) -> dict[str, np.ndarray]:
    """Pad samples into one blob.

    Args:
        samples: at least one.
        config: with FPN.FPN_ON, sides become multiples of FPN.COARSEST_STRIDE.
        train: training or testing.

    Returns:
        data: (N, 3, H, W) float32; images stand in the top left corner, zeros elsewhere.
        im_info: (N, 3) float32 rows height, width, scale. The size, within which the RPN's
            proposals are kept, is that of the image without padding when training, and in testing
            H, W as in Detectron, unless LIBRA.BOX_CONVENTION is mmdet.
    """
    height = max(sample.image.shape[0] for sample in samples)
    width = max(sample.image.shape[1] for sample in samples)
    if config.FPN.FPN_ON:
        stride = int(config.FPN.COARSEST_STRIDE)
        height, width = -(-height // stride) * stride, -(-width // stride) * stride
    data = np.zeros((len(samples), 3, height, width), dtype=np.float32)
    im_info = np.empty((len(samples), 3), dtype=np.float32)
    for index, sample in enumerate(samples):
        rows, columns = sample.image.shape[:2]
        data[index, :, :rows, :columns] = sample.image.transpose(2, 0, 1)
        if not train and config.LIBRA.BOX_CONVENTION == "detectron":
            rows, columns = height, width
        im_info[index] = rows, columns, sample.scale
    return {"data": data, "im_info": im_info}

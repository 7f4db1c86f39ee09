"""Network inputs of one minibatch: images are read, augmented, scaled and padded into one blob."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Sequence

import numpy as np

from detectron_ext.data import transforms
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.proposals import usable_proposals
from detectron_ext.errors import DatasetError

if TYPE_CHECKING:
    from detectron_ext.config.settings import LibraAugmentationSettings, Settings

_LOG = logging.getLogger(__name__)


@dataclass
class ImageSample:
    """An image as the network gets it, before padding.

    Attributes:
        image: (height, width, 3) float32, BGR, the means subtracted.
        scale: network pixels per pixel of the image file.
        boxes: (N, 4) float32 ground truth x1, y1, x2, y2 in network pixels.
        classes: (N,) int32 class numbers, from 1.
        is_crowd: (N,) bool; a crowd counts neither as an object nor as background.
        proposals: (P, 4) float32 proposals from a file in network pixels, best first.
        record: the image's record; None for an image of no data set.
    """

    image: np.ndarray
    scale: float
    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    proposals: np.ndarray
    record: ImageRecord | None


def load_sample(
    record: ImageRecord, config: Settings, rng: np.random.Generator | None, train: bool
) -> ImageSample:
    """Read one image and prepare it as Detectron does.

    Args:
        record: the image and its ground truth.
        config: a merged configuration. Training uses PIXEL_MEANS, TRAIN.SCALES (one is drawn),
            TRAIN.MAX_SIZE and LIBRA.AUGMENTATION; testing uses PIXEL_MEANS, TEST.SCALE,
            TEST.MAX_SIZE and TEST.PROPOSAL_LIMIT.
        rng: generator for all random choices; None is allowed for testing, which makes none.
        train: True prepares the image for training, False for testing.

    Returns:
        The sample, with ground truth.

    Raises:
        DatasetError: the image is missing, cannot be decoded, or does not have the annotated size.
    """
    image = transforms.read_image(record, config.LIBRA.DATA.DEEP_IMAGES)
    if train:
        assert rng is not None, "training draws random scales"
        return _training_sample(record, image, config, rng)
    sample = prepare_image(image, config, usable_proposals(record, config.TEST.PROPOSAL_LIMIT))
    boxes = record.boxes * np.float32(sample.scale)
    return replace(
        sample, boxes=boxes, classes=record.classes, is_crowd=record.is_crowd, record=record
    )


def prepare_image(
    image: np.ndarray, config: Settings, proposals: np.ndarray | None = None
) -> ImageSample:
    """Prepare one image for testing.

    Args:
        image: (height, width, 3) uint8, BGR.
        config: PIXEL_MEANS, TEST.SCALE, TEST.MAX_SIZE.
        proposals: (P, 4) float32 in pixels of the image; None for a model that reads none.

    Returns:
        A sample without ground truth and record.
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
    record: ImageRecord, image: np.ndarray, config: Settings, rng: np.random.Generator
) -> ImageSample:
    options = config.LIBRA.AUGMENTATION
    target_size = config.TRAIN.SCALES[int(rng.integers(len(config.TRAIN.SCALES)))]
    # Objects and proposals are moved together, so that each transformation is applied once.
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
        # Colours come last, because the image is smallest then.
        means = np.asarray(config.PIXEL_MEANS, dtype=np.float32).reshape(1, 1, 3)
        image = transforms.jitter_color(image + means, options.COLOR_JITTER, rng) - means
    return ImageSample(image, scale, boxes, classes, is_crowd, proposals, record)


def _flip_and_turn(
    image: np.ndarray,
    boxes: np.ndarray,
    options: LibraAugmentationSettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Apply the flips and turns of LIBRA.AUGMENTATION. An option that is off draws no number."""
    if options.FLIP_VERTICAL and rng.random() < 0.5:
        image, boxes = transforms.flip_vertically(image, boxes)
    if options.ROTATE90:
        image, boxes = transforms.rotate90(image, boxes, int(rng.integers(4)))
    return image, boxes


def _choose_scale(
    image: np.ndarray,
    boxes: np.ndarray,
    is_crowd: np.ndarray,
    target_size: float,
    config: Settings,
    rng: np.random.Generator,
) -> tuple[float, tuple[int, int, int, int] | None]:
    """Draw the scale of an image and, with LIBRA.AUGMENTATION.CROP, a crop window.

    With CROP the window has the size that the image has without augmentation. If no window shows
    an object, the image keeps its usual scale and is not cropped. Without CROP the longer side is
    limited by TRAIN.MAX_SIZE.

    Args:
        image: (height, width, 3) in pixels of the file.
        boxes: (N, 4) float32 ground truth in the same pixels.
        is_crowd: (N,) bool.
        target_size: one of TRAIN.SCALES, in pixels.
        config: a merged configuration.
        rng: generator for the random choices.

    Returns:
        scale: network pixels per pixel of the file.
        window: left, top, width and height in scaled pixels; None for no crop.
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
    records: Sequence[ImageRecord],
    indices: Sequence[int],
    config: Settings,
    rng: np.random.Generator,
) -> list[ImageSample]:
    """Load the training samples of one minibatch.

    With LIBRA.DATA.SKIP_BAD_IMAGES an image that cannot be read is replaced by the next record
    whose image can be read, and a warning names it once. So the minibatch keeps its size, and every
    run makes the same choice.

    Args:
        records: all training records.
        indices: indices of the minibatch's images in ``records``.
        config: a merged configuration; see :func:`load_sample`.
        rng: generator for all random choices of the minibatch.

    Returns:
        One sample for each index, in the same order.

    Raises:
        DatasetError: an image cannot be read and is not to be skipped, or no image can be read.
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
                        f"{error}; to skip such images, set LIBRA.DATA.SKIP_BAD_IMAGES True"
                    ) from error
                _warn_once(str(error))
        else:
            raise DatasetError("no training image can be read: see the warnings above")
    return samples


@lru_cache(maxsize=None)
def _warn_once(message: str) -> None:
    """Log the warning about a skipped image only once, not in every epoch."""
    _LOG.warning("skipped: %s", message)


def image_blobs(
    samples: Sequence[ImageSample], config: Settings, train: bool
) -> dict[str, np.ndarray]:
    """Pad samples into one blob.

    Args:
        samples: at least one sample.
        config: a merged configuration. With FPN.FPN_ON, H and W become multiples of
            FPN.COARSEST_STRIDE.
        train: whether the blobs are for training.

    Returns:
        data: (N, 3, H, W) float32. Each image is in the top left corner; the rest is 0.
        im_info: (N, 3) float32 rows height, width, scale. The RPN's proposals are clipped to this
            height and width. They are those of the image without padding in training and with
            LIBRA.BOX_CONVENTION mmdet; in testing they are H and W, as in Detectron.
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

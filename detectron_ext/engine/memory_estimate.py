"""Refuses a model that needs more memory than there is, before its memory is taken.

The estimate is a lower limit: parameters, momenta, gradients, the maps of the largest image and the
minibatches of the loader. What an operator needs while it runs is left out.
"""

from __future__ import annotations

import functools
import operator
import re
from typing import TYPE_CHECKING, Iterable, NamedTuple

import numpy as np

from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.transforms import resize_scale, scaled_size
from detectron_ext.errors import ConfigError
from detectron_ext.geometry.roi_levels import roi_level_names
from detectron_ext.memory_limit import memory_limit
from detectron_ext.modeling import build_model
from detectron_ext.modeling.blob_lifetimes import frees_blobs, lifetimes
from detectron_ext.modeling.blob_sizes import activation_shapes, parameter_shapes
from detectron_ext.modeling.devices import replica_scopes

if TYPE_CHECKING:
    from detectron_ext.config import Config
    from detectron_ext.config.settings import Settings
    from detectron_ext.modeling.model import DetectionModel

_BYTES = 4  # of a float32

# Names of parameters and the key that sets their size.
_SIZE_KEYS = (
    (re.compile(r"(cls_score|bbox_pred|retnet_(cls|bbox)_pred)"), "MODEL.NUM_CLASSES"),
    (re.compile(r"fc[67]_"), "FAST_RCNN.MLP_HEAD_DIM"),
    (re.compile(r"head_conv"), "FAST_RCNN.CONV_HEAD_DIM"),
    (re.compile(r"(fpn|retnet|bfp|rpn|conv_rpn)_"), "FPN.DIM"),
)
_BACKBONE_KEY = "RESNETS.WIDTH_PER_GROUP"


class Need(NamedTuple):
    """Memory that one part of a run needs.

    Attributes:
        what: names the part, for a message.
        size: in bytes.
        advice: which key to change.
    """

    what: str
    size: int
    advice: str


def check_training_memory(
    model: DetectionModel, records: Iterable[ImageRecord], num_processes: int = 1
) -> None:
    """Raise ConfigError if training needs more memory than there is.

    Args:
        model: a training model; nothing of it has been run.
        records: the images to train on.
        num_processes: number of processes on this machine that train such a model.
    """
    config = model.config
    sizes = {(record.height, record.width) for record in records}
    scale, limit = max(config.TRAIN.SCALES), config.TRAIN.MAX_SIZE
    height, width = max((_scaled(h, w, scale, limit) for h, w in sizes), key=_area)
    needs = training_needs(model, height, width)
    action = "training" if num_processes == 1 else f"training in {num_processes} processes"
    refuse_too_large([need._replace(size=need.size * num_processes) for need in needs], action)


def check_test_memory(model: DetectionModel, sizes: Iterable[tuple[int, int]] = ()) -> None:
    """Raise ConfigError if a test needs more memory than there is.

    Args:
        model: a test model.
        sizes: heights and widths of the images to test, in pixels of their files. Without them
            only the parameters are counted.
    """
    if model.num_gpus:
        return
    config = model.config
    scaled = {(h, w): _scaled(h, w, config.TEST.SCALE, config.TEST.MAX_SIZE) for h, w in sizes}
    needs, action = [_parameters(model)], "the model"
    if scaled:
        height, width = max(scaled, key=lambda size: _area(scaled[size]))
        needs.append(_test_maps(model, *scaled[height, width]))
        action = f"testing an image of {width}x{height} pixels"
    refuse_too_large(needs, action)


def check_memory_of_test(config: Config, records: Iterable[ImageRecord]) -> None:
    """Raise ConfigError if testing images will need more memory than there is.

    It builds the model for that; nothing is run.

    Args:
        config: a merged configuration.
        records: the images to test.
    """
    model = build_model(config, train=False)
    check_test_memory(model, {(record.height, record.width) for record in records})


def training_needs(model: DetectionModel, height: int, width: int) -> list[Need]:
    """Return what a training needs.

    Args:
        model: a training model.
        height, width: size of the largest image after scaling, in pixels.
    """
    config = model.config
    images = config.TRAIN.IMS_PER_BATCH
    # A queue never holds more minibatches than there are iterations.
    queued = min(config.DATA_LOADER.MINIBATCH_QUEUE_SIZE, max(1, config.SOLVER.MAX_ITER))
    minibatch = max(1, model.num_gpus) * _size((images, 3, *_padded(height, width, config)))
    loader = Need(
        f"the loader's queue of {queued} minibatches",
        queued * minibatch,
        f"DATA_LOADER.MINIBATCH_QUEUE_SIZE ({config.DATA_LOADER.MINIBATCH_QUEUE_SIZE})",
    )
    if model.num_gpus:  # their memory is not known here
        return [loader]
    maps = f"the maps of a minibatch of {images} images of {width}x{height} pixels"
    regions = images * config.TRAIN.BATCH_SIZE_PER_IM
    keys = ("TRAIN.IMS_PER_BATCH", "TRAIN.SCALES") if images > 1 else ("TRAIN.SCALES",)
    advice = " or ".join(f"{key} ({_value(config, key)})" for key in keys)
    activations = _activations(model, images, height, width, regions)
    return [_parameters(model), Need(maps, activations, advice), loader]


def _test_maps(model: DetectionModel, height: int, width: int) -> Need:
    """Return the need of the maps of an image; arguments as of :func:`training_needs`."""
    config = model.config
    activations = _activations(model, 1, height, width, config.TEST.RPN_POST_NMS_TOP_N)
    maps = f"the maps of an image that is scaled to {width}x{height} pixels"
    advice = f"TEST.SCALE ({config.TEST.SCALE}) or TEST.MAX_SIZE ({config.TEST.MAX_SIZE})"
    return Need(maps, activations, advice)


def refuse_too_large(needs: list[Need], action: str) -> None:
    """Raise ConfigError if needs together exceed the memory; it names the largest of them."""
    total, limit = sum(need.size for need in needs), memory_limit()
    if total <= limit.size:
        return
    largest = max(needs, key=lambda need: need.size)
    raise ConfigError(
        f"{action} needs at least {_gigabytes(total)}, and {limit.owner} "
        f"{_gigabytes(limit.size)}; {largest.what} take {_gigabytes(largest.size)}: lower "
        f"{largest.advice}"
    )


def _parameters(model: DetectionModel) -> Need:
    """Return the need of the parameters, in training with gradients and momenta."""
    sizes = {name: _size(shape) for name, shape in parameter_shapes(model).items()}
    gradients = sum(sizes[str(name)] for name in model.trainable_params() if str(name) in sizes)
    largest = max(sizes, key=lambda name: sizes[name])
    key = next((key for names, key in _SIZE_KEYS if names.match(largest)), _BACKBONE_KEY)
    kinds = "parameters, gradients and momenta" if model.train else "parameters"
    what = f"the {kinds}, of which {largest} is the largest,"
    return Need(what, sum(sizes.values()) + gradients, f"{key} ({_value(model.config, key)})")


def _activations(model: DetectionModel, images: int, height: int, width: int, regions: int) -> int:
    """Return the bytes of the maps of a minibatch and, in training, of their gradients."""
    config = model.config
    height, width = _padded(height, width, config)
    inputs = {"data": (images, 3, height, width), "rois": (regions, 5)}
    # The regions of all levels together; how they are spread depends on the image.
    names = roi_level_names("rois", config) if config.FPN.FPN_ON else []
    for name in names:
        if "fpn" in name:
            inputs[name] = (regions if name == names[0] else 0, 5)
    scope = replica_scopes(model.num_gpus)[0]
    shapes = activation_shapes(model, {scope + name: shape for name, shape in inputs.items()})
    sizes = {name: _size(shape) for name, shape in shapes.items()}
    data = _size(inputs["data"])
    if model.train and frees_blobs(model):
        return data + _freed_activations(model, sizes)
    total, largest = data + sum(sizes.values()), max(data, *sizes.values())
    if not model.train:
        return total
    # MEMONGER keeps only those that are needed at the same time.
    return total + (largest if config.MEMONGER else total)


def _freed_activations(model: DetectionModel, sizes: dict[str, int]) -> int:
    """Return the most bytes that maps need at a time if each is freed after its last reader.

    Gradients of maps are left out. Gradients of parameters, which `_parameters` counts, are
    complete only when the maps have been freed, so that the sum of both is smaller than the sum of
    their largest sizes.

    Args:
        model: a training model.
        sizes: bytes of the maps, by name.
    """
    shapes = parameter_shapes(model)
    gradients = {
        str(model.param_to_grad[param]): _size(shapes[str(param)])
        for param in model.trainable_params()
        if str(param) in shapes
    }
    known = {**sizes, **gradients}
    changes = np.zeros(len(model.net.Proto().op) + 1, dtype=np.int64)
    for life in lifetimes(model.net.Proto().op):
        changes[life.first] += known.get(life.blob, 0)
        changes[life.last + 1] -= known.get(life.blob, 0)
    return max(0, int(changes.cumsum().max()) - sum(gradients.values()))


def _scaled(height: int, width: int, target_size: float, max_size: float) -> tuple[int, int]:
    return scaled_size(height, width, resize_scale(height, width, target_size, max_size))


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _padded(height: int, width: int, config: Settings) -> tuple[int, int]:
    if not config.FPN.FPN_ON:
        return height, width
    stride = int(config.FPN.COARSEST_STRIDE)
    return -(-height // stride) * stride, -(-width // stride) * stride


def _size(shape: tuple) -> int:
    """Return the bytes of a float32 tensor."""
    return functools.reduce(operator.mul, shape, _BYTES)


def _value(config: Settings, key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"

"""Builds the model that a configuration describes, for the device that it asks for."""

from __future__ import annotations

import hashlib
from typing import Callable

from detectron_ext.config import Config, is_retinanet
from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.devices import replica, unscoped, usable_gpus
from detectron_ext.modeling.generalized_rcnn import add_generalized_rcnn
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.optimizer import (
    add_backward_pass,
    add_parameter_updates,
    share_gradient_memory,
)
from detectron_ext.modeling.process_sums import check_devices
from detectron_ext.modeling.retinanet_detector import add_retinanet


def build_model(config: Config, train: bool, num_processes: int = 1) -> DetectionModel:
    """Build the detector that MODEL.TYPE names. Nothing is run.

    Args:
        config: a merged configuration.
        train: True adds losses, gradients and parameter updates, False the test-time outputs.
        num_processes: number of processes that train together (`process_sums`), at least 1.

    Returns:
        A model helper with ``net`` and ``param_init_net``. They are made for the CPU, or for
        NUM_GPUS GPUs but at most those of the machine. A test model uses one GPU at most.

    Raises:
        ConfigError: a model type, a body or a setting that cannot be built, or several processes
            on GPUs.
    """
    _check_num_classes(config)
    num_gpus = usable_gpus(config)
    if not train:
        num_gpus = min(1, num_gpus)
    if num_processes > 1:
        check_devices(num_gpus)
    model = DetectionModel(config.MODEL.TYPE, config, train, num_gpus, num_processes)
    add_detector = _detector(config.MODEL.TYPE)
    losses_by_replica = []
    for index in range(max(1, num_gpus)):
        with replica(index, num_gpus):
            losses_by_replica.append(add_detector(model))
    if train:
        add_backward_pass(model, losses_by_replica)
        add_parameter_updates(model)
        if config.MEMONGER:
            share_gradient_memory(model)
    _set_execution(model)
    _seed_initializers(model)
    return model


def _check_num_classes(config: Settings) -> None:
    has_classes = is_retinanet(config) or not config.MODEL.RPN_ONLY
    if has_classes and config.MODEL.NUM_CLASSES < 2:
        raise ConfigError(
            f"MODEL.NUM_CLASSES is {config.MODEL.NUM_CLASSES}; set it to the data set's number of "
            "classes plus 1"
        )


def _detector(model_type: str) -> Callable[[DetectionModel], list]:
    if model_type not in _DETECTORS:
        raise ConfigError(
            f"MODEL.TYPE {model_type!r} is not built here: set generalized_rcnn or retinanet"
        )
    return _DETECTORS[model_type]


def _set_execution(model: DetectionModel) -> None:
    """Set how the net runs: on GPUs as MODEL.EXECUTION_TYPE says, on the CPU operator by operator.

    On the CPU each operator uses all threads. Operators that ran at the same time would compete.
    """
    proto = model.net.Proto()
    proto.type = model.config.MODEL.EXECUTION_TYPE if model.num_gpus else "simple"
    proto.num_workers = max(1, 4 * model.num_gpus)


def _seed_initializers(model: DetectionModel) -> None:
    """Give every initialiser a seed of RNG_SEED and the name of what it fills.

    The same RNG_SEED thus gives the same weights, and gives them to two models wherever these have
    a parameter of the same name and shape in common, whatever parts surround it.
    """
    for operator in model.param_init_net.Proto().op:
        text = f"{model.config.RNG_SEED} {unscoped(operator.output[0])}"
        digest = hashlib.sha256(text.encode()).digest()
        operator.device_option.random_seed = int.from_bytes(digest[:4], "big") % 2**31


# Detectron's old names of models that are generalized_rcnn with certain settings now.
_OLD_TYPES = (
    "fast_rcnn", "faster_rcnn", "rpn", "fpn_rpn",
    "mask_rcnn", "keypoint_rcnn", "mask_and_keypoint_rcnn",
)  # fmt: skip
_DETECTORS = {
    "generalized_rcnn": add_generalized_rcnn,
    "retinanet": add_retinanet,
    **dict.fromkeys(_OLD_TYPES, add_generalized_rcnn),
}

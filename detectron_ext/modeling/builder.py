"""From a configuration to a model: which parts, on which device. Nothing is run here."""

from __future__ import annotations

from detectron_ext.config import is_retinanet
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.devices import replica, usable_gpus
from detectron_ext.modeling.generalized_rcnn import add_generalized_rcnn
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.optimizer import (
    add_backward_pass,
    add_parameter_updates,
    share_gradient_memory,
)
from detectron_ext.modeling.retinanet_detector import add_retinanet


def build_model(config, train: bool) -> DetectionModel:
    """Build the detector that MODEL.TYPE names.

    Args:
        config: a merged configuration.
        train: add losses, gradients and parameter updates; else the test-time outputs.

    Returns:
        A model helper: ``net`` and ``param_init_net`` are ready to run, on NUM_GPUS GPUs (as many
        as the machine has) or the CPU. At test time there is one replica.

    Raises:
        ConfigError: for a model type, body or setting that cannot be built.
    """
    _check_num_classes(config)
    num_gpus = usable_gpus(config)
    if not train:
        num_gpus = min(1, num_gpus)
    model = DetectionModel(config.MODEL.TYPE, config, train, num_gpus)
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


def _check_num_classes(config) -> None:
    has_classes = is_retinanet(config) or not config.MODEL.RPN_ONLY
    if has_classes and config.MODEL.NUM_CLASSES < 2:
        raise ConfigError(
            f"MODEL.NUM_CLASSES is {config.MODEL.NUM_CLASSES}; set it to the data set's number of "
            "classes plus 1"
        )


def _detector(model_type: str):
    if model_type not in _DETECTORS:
        raise ConfigError(
            f"MODEL.TYPE {model_type!r} is not one this builds: generalized_rcnn or retinanet"
        )
    return _DETECTORS[model_type]


def _set_execution(model: DetectionModel) -> None:
    """GPU nets run as MODEL.EXECUTION_TYPE says; on the CPU each operator uses all threads, and
    running several at once would only make them compete."""
    proto = model.net.Proto()
    proto.type = model.config.MODEL.EXECUTION_TYPE if model.num_gpus else "simple"
    proto.num_workers = max(1, 4 * model.num_gpus)


def _seed_initializers(model: DetectionModel) -> None:
    """Give every initialiser a seed of its own: same RNG_SEED, same weights."""
    for index, operator in enumerate(model.param_init_net.Proto().op):
        operator.device_option.random_seed = (model.config.RNG_SEED * 1_000_003 + index) % 2**31


# Names that Detectron had for what generalized_rcnn builds since, by its settings.
_OLD_TYPES = (
    "fast_rcnn", "faster_rcnn", "rpn", "fpn_rpn",
    "mask_rcnn", "keypoint_rcnn", "mask_and_keypoint_rcnn",
)  # fmt: skip
_DETECTORS = {
    "generalized_rcnn": add_generalized_rcnn,
    "retinanet": add_retinanet,
    **dict.fromkeys(_OLD_TYPES, add_generalized_rcnn),
}

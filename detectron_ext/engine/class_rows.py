"""The rows of a detector's last layers that belong to single classes, and their transfer by name.

The first axis of such a layer counts groups, in each group classes, and for each class values:

| layer | groups | classes | values |
| --- | --- | --- | --- |
| retnet_cls_pred | anchors | without background; with it under RETINANET.SOFTMAX | 1 |
| retnet_bbox_pred under RETINANET.CLASS_SPECIFIC_BBOX | anchors | without background | 4 |
| cls_score | 1 | with background | 1 |
| bbox_pred unless MODEL.CLS_AGNOSTIC_BBOX_REG | 1 | with background | 4 |
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from detectron_ext.config import is_retinanet
from detectron_ext.config.settings import Settings
from detectron_ext.modeling.retinanet import num_anchors


class ClassLayer(NamedTuple):
    """How the classes lie in the first axis of a layer's weights and biases.

    Attributes:
        prefix: how the names of its parameters begin.
        groups: number of groups.
        values: number of values of one class in one group.
        with_background: whether the background is one of the classes.
    """

    prefix: str
    groups: int
    values: int
    with_background: bool

    def rows(self, num_classes: int) -> int:
        """Return the length of the first axis for a number of classes, background included."""
        return self.groups * self.values * (num_classes - (not self.with_background))

    def num_classes(self, rows: tuple) -> int:
        """Return the number of classes, background included, that a first axis has room for.

        Args:
            rows: the length of the axis; () for a parameter without axes.

        Returns:
            The number; 0 if the length is not that of a whole number of classes.
        """
        size, rest = divmod(rows[0] if rows else 1, self.groups * self.values)
        return 0 if rest or not rows else size + (not self.with_background)


def class_layers(config: Settings) -> list[ClassLayer]:
    """Return the layers of a model that have rows of single classes."""
    if is_retinanet(config):
        anchors, settings = num_anchors(config), config.RETINANET
        layers = [ClassLayer("retnet_cls_pred_", anchors, 1, settings.SOFTMAX)]
        if settings.CLASS_SPECIFIC_BBOX:
            layers.append(ClassLayer("retnet_bbox_pred_", anchors, 4, False))
        return layers
    if config.MODEL.RPN_ONLY:
        return []
    layers = [ClassLayer("cls_score_", 1, 1, True)]
    if not config.MODEL.CLS_AGNOSTIC_BBOX_REG:
        layers.append(ClassLayer("bbox_pred_", 1, 4, True))
    return layers


def transferred(
    layer: ClassLayer,
    initial: np.ndarray,
    stored: np.ndarray,
    classes: Sequence[str],
    stored_classes: Sequence[str],
) -> np.ndarray | None:
    """Return the rows of a parameter, those of a class that both models know from the stored one.

    The background is class 0 of both, whatever its name.

    Args:
        layer: the layer that the parameter belongs to.
        initial: (rows, ...), the model's present value, for the other classes.
        stored: (stored rows, ...), the value of the weights file.
        classes: class names of the model, background first.
        stored_classes: class names of the weights file, background first.

    Returns:
        An array like ``initial``, or None if ``stored`` is not laid out as the layer is.
    """
    if initial.shape[1:] != stored.shape[1:] or stored.ndim == 0:
        return None
    for value, names in ((initial, classes), (stored, stored_classes)):
        if value.shape[0] != layer.rows(len(names)):
            return None
    sources = {name: number for number, name in enumerate(stored_classes) if number}
    pairs = [(n, sources[name]) for n, name in enumerate(classes) if n and name in sources]
    if layer.with_background:
        pairs.append((0, 0))
    first = 0 if layer.with_background else 1
    result = initial.astype(np.float32)
    old, new = _by_class(layer, stored), _by_class(layer, result)
    for target, source in pairs:
        new[:, target - first] = old[:, source - first]
    return result


def _by_class(layer: ClassLayer, value: np.ndarray) -> np.ndarray:
    """Return a view (groups, classes, values, ...) of a parameter."""
    return value.reshape((layer.groups, -1, layer.values) + value.shape[1:])

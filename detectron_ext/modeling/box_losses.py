"""Box regression losses, chosen by LIBRA.BOX_LOSS, for every detector that has one.

Two places need a loss. The Fast R-CNN head predicts one row of numbers for each region: the dense
form of a loss compares whole arrays. RetinaNet predicts a box for every anchor and trains few of
them: the select form takes these from the map.

The RPN's box loss is not among them: it is always smooth L1, as in Libra R-CNN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from detectron_ext import ops
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.ops.reference import box_losses as formulas
from detectron_ext.registry import Protocol, Registry

# The loss of a configuration that asks for no other (Fast R-CNN, equation 3).
DEFAULT = "smooth_l1"
_BALANCED = "balanced_l1"


class BoxLossForm(Protocol):
    """Adds one box loss to ``model.net`` and returns its blob, a float32 scalar."""

    def __call__(
        self, model: DetectionModel, inputs: tuple, blob_out: str, *, beta: float, scale: float
    ) -> Any:
        """Add the loss.

        Args:
            model: ``model.net`` gets the operators, ``model.config`` holds all settings.
            inputs: four blobs, see `BoxLoss`. Only the first may get a gradient: Caffe2 operators
                that differentiate the others as well need copies of those from StopGradient.
            blob_out: name of the loss. Other blobs of the loss need names that begin with it:
                the same function runs for every pyramid level.
            beta: difference at which smooth L1 turns linear, above 0; RETINANET.BBOX_REG_BETA, or
                1.0 in the Fast R-CNN head. A loss without such a point ignores it.
            scale: factor of the loss, at least 0; it holds LIBRA.LOSS_WEIGHTS.BBOX and the share
                of one GPU.
        """
        ...


@dataclass(frozen=True)
class BoxLoss:
    """A loss in the forms that detectors need. All blobs are float32.

    Attributes:
        dense: for heads on regions. Inputs: predictions (R, D), targets (R, D), weights inside the
            penalty (R, D), weights outside it (R, D). The loss is
            scale / R * sum(outside * penalty(inside * (predictions - targets))).
        select: for RetinaNet. Inputs: predictions (N, A * 4, H, W); targets (M, 4); locations
            (M, 4), rows (image, first channel, y, x) that select channels c to c + 3; number of
            foreground anchors (1,). M may be 0. The loss is
            scale / max(1, foreground) * sum(penalty(selected predictions - targets)).
            None for a loss that RetinaNet cannot use.
    """

    dense: BoxLossForm
    select: BoxLossForm | None = None


BOX_LOSSES: Registry[BoxLoss] = Registry("LIBRA.BOX_LOSS")
"""Box losses by the names that LIBRA.BOX_LOSS takes; an entry is a `BoxLoss`.

`numpy_box_loss` makes one from two formulas.
"""


def box_loss_name(config) -> str:
    """Return the name of the box loss in use: LIBRA.BOX_LOSS, or where that is "" balanced_l1 if
    LIBRA.BALANCED_L1.ON and else smooth_l1."""
    libra = config.LIBRA
    return libra.BOX_LOSS or (_BALANCED if libra.BALANCED_L1.ON else DEFAULT)


def add_box_loss(
    model: DetectionModel, form: str, inputs: tuple, blob_out: str, *, beta: float, scale: float
) -> Any:
    """Add the box loss that the configuration names.

    Args:
        model: LIBRA.BOX_LOSS and LIBRA.BALANCED_L1 are used.
        form: "dense" or "select".
        inputs: four blobs, shaped as `BoxLoss` says for the form.
        blob_out: name of the loss.
        beta, scale: see `BoxLossForm`.

    Returns:
        The loss blob, a float32 scalar.

    Raises:
        ConfigError: there is no such loss, or it has no such form.
    """
    name = box_loss_name(model.config)
    add = getattr(BOX_LOSSES.choose(name), form)
    if add is None:
        raise ConfigError(
            f"LIBRA.BOX_LOSS {name} has no {form} form, which this detector needs: choose another "
            "loss, or give its BoxLoss that form"
        )
    return add(model, inputs, blob_out, beta=beta, scale=scale)


def _smooth_l1(operator):
    def add(model, inputs, blob_out, *, beta, scale):
        return operator(model.net, *inputs, blob_out, beta=beta, scale=scale)

    return add


def _balanced_l1(operator):
    def add(model, inputs, blob_out, *, beta, scale):
        settings = model.config.LIBRA.BALANCED_L1
        return operator(
            model.net, *inputs, blob_out,
            alpha=settings.ALPHA, gamma=settings.GAMMA, formula=settings.FORMULA,
            beta=beta, scale=scale,
        )  # fmt: skip

    return add


BOX_LOSSES.register(DEFAULT)(
    BoxLoss(_smooth_l1(ops.smooth_l1_loss), _smooth_l1(ops.select_smooth_l1_loss))
)
BOX_LOSSES.register(_BALANCED)(
    BoxLoss(_balanced_l1(ops.balanced_l1_loss), _balanced_l1(ops.select_balanced_l1_loss))
)


def numpy_box_loss(
    penalty: Callable[[np.ndarray, float], np.ndarray],
    slope: Callable[[np.ndarray, float], np.ndarray],
) -> BoxLoss:
    """Make a box loss, both forms, from numpy formulas. It runs on the CPU only.

    Args:
        penalty: (difference, beta) -> what each difference costs. The difference is a float64 array
            of any shape; the result has that shape.
        slope: (difference, beta) -> the derivative of the penalty, of the same shape.

    Returns:
        An entry for BOX_LOSSES.
    """
    return BoxLoss(
        _numpy_form(penalty, slope, formulas.dense_loss, formulas.dense_loss_gradient),
        _numpy_form(penalty, slope, formulas.select_loss, formulas.select_loss_gradient),
    )


def _numpy_form(penalty, slope, loss, gradient) -> BoxLossForm:
    def add(model, inputs, blob_out, *, beta, scale):
        if model.num_gpus:
            raise ConfigError(
                f"LIBRA.BOX_LOSS {box_loss_name(model.config)} is written in numpy and runs on the "
                "CPU only: set NUM_GPUS to 0"
            )

        def forward(tensors, outputs):
            arrays = [tensor.data for tensor in tensors]
            value = loss(lambda difference: penalty(difference, beta), *arrays, scale=scale)
            outputs[0].feed(np.asarray(value, dtype=np.float32))

        def backward(tensors, outputs):
            # Caffe2 passes the inputs, the output and the gradient of the output.
            *arrays, _, d_loss = (tensor.data for tensor in tensors)
            value = gradient(
                lambda difference: slope(difference, beta), *arrays, d_loss, scale=scale
            )
            outputs[0].feed(value.astype(np.float32))

        operator = model.net.Python(forward, backward, grad_input_indices=[0])
        return operator(list(inputs), [blob_out])

    return add

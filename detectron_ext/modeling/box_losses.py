"""Box regression losses, chosen by LIBRA.BOX_LOSS, for every detector that has one.

A loss has two forms. The Fast R-CNN head predicts one row of numbers for each region, and the dense
form compares whole arrays. RetinaNet predicts a box for every anchor and trains few of them, and
the select form picks these from the map.

The RPN's box loss is not chosen here. It is always smooth L1, as in Libra R-CNN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext import ops
from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError, shown
from detectron_ext.modeling.layers import Blob
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.ops.reference import box_losses as formulas
from detectron_ext.registry import Protocol, Registry

# The loss that is used unless the configuration asks for another one (Fast R-CNN, equation 3).
DEFAULT = "smooth_l1"
_BALANCED = "balanced_l1"
# (difference, beta) -> one number for each difference
Formula = Callable[[np.ndarray, float], np.ndarray]


class BoxLossForm(Protocol):
    """A function that adds one box loss to ``model.net`` and returns its blob, a float32 scalar."""

    def __call__(
        self,
        model: DetectionModel,
        inputs: Sequence[Blob],
        blob_out: str,
        *,
        beta: float,
        scale: float,
    ) -> Blob:
        """Add the loss.

        Args:
            model: ``model.net`` gets the operators, ``model.config`` holds all settings.
            inputs: four or five blobs, see `BoxLoss`. Only the first may get a gradient. Caffe2
                operators that differentiate the others, too, must take copies of them from
                StopGradient.
            blob_out: name of the loss. Names of further blobs must begin with it, since the
                function is called for every pyramid level.
            beta: absolute difference at which smooth L1 turns linear, above 0. It is
                RETINANET.BBOX_REG_BETA, or 1.0 in the Fast R-CNN head. A loss without such a point
                ignores it.
            scale: factor of the loss, at least 0: LIBRA.LOSS_WEIGHTS.BBOX, and RetinaNet's
                BBOX_REG_WEIGHT, divided by the number of GPUs.
        """
        ...


@dataclass(frozen=True)
class BoxLoss:
    """A loss in the forms that detectors need. All blobs are float32.

    Attributes:
        dense: for heads on regions. Inputs: predictions, targets, inside weights and outside
            weights, each (R, D). The loss is
            scale / R * sum(outside * penalty(inside * (predictions - targets))).
        select: for RetinaNet. Inputs: predictions (N, A * 4, H, W); targets (M, 4); locations
            (M, 4), rows (image, first channel, y, x) that select channels c to c + 3; number of
            foreground anchors (1,). M may be 0. The loss is
            scale / max(1, foreground) * sum(penalty(selected predictions - targets)).
            None for a loss that RetinaNet cannot use.
        weighted_select: the select form with a fifth input, weights (M,) that the penalties of the
            rows are multiplied by. None for a loss that LIBRA.RETINANET_WEIGHTS.BOX cannot weigh.
    """

    dense: BoxLossForm
    select: BoxLossForm | None = None
    weighted_select: BoxLossForm | None = None


BOX_LOSSES: Registry[BoxLoss] = Registry(
    "LIBRA.BOX_LOSS", "a BoxLoss", lambda part: isinstance(part, BoxLoss)
)
"""Box losses by the names that LIBRA.BOX_LOSS takes. An entry is a `BoxLoss`.

`numpy_box_loss` makes one from two formulas.
"""


def box_loss_name(config: Settings) -> str:
    """Return the name of the box loss in use.

    It is LIBRA.BOX_LOSS unless that is "". Then it is balanced_l1 if LIBRA.BALANCED_L1.ON, else
    smooth_l1.
    """
    libra = config.LIBRA
    return libra.BOX_LOSS or (_BALANCED if libra.BALANCED_L1.ON else DEFAULT)


def add_box_loss(
    model: DetectionModel,
    form: str,
    inputs: Sequence[Blob],
    blob_out: str,
    *,
    beta: float,
    scale: float,
) -> Blob:
    """Add the box loss that the configuration names.

    Args:
        model: gets the operators; LIBRA.BOX_LOSS and LIBRA.BALANCED_L1 of its configuration are
            used.
        form: "dense", "select" or "weighted_select".
        inputs: four or five blobs, shaped as `BoxLoss` says for the form.
        blob_out: name of the loss.
        beta: absolute difference at which smooth L1 turns linear, above 0.
        scale: factor of the loss, at least 0.

    Returns:
        The loss blob, a float32 scalar.

    Raises:
        ConfigError: there is no such loss, it has no such form, or the form returns no blob.
    """
    name = box_loss_name(model.config)
    add = getattr(BOX_LOSSES.choose(name), form)
    if add is None:
        raise ConfigError(
            f"LIBRA.BOX_LOSS {name} has no {form} form, which this detector needs: choose another "
            "loss, or give its BoxLoss that form"
        )
    loss = add(model, inputs, blob_out, beta=beta, scale=scale)
    if not isinstance(loss, (core.BlobReference, str)):
        raise ConfigError(
            f"the {form} form of LIBRA.BOX_LOSS {name} must return a blob, given {shown(loss)}"
        )
    return loss


def _smooth_l1(operator: Callable[..., Blob]) -> BoxLossForm:
    def add(model, inputs, blob_out, *, beta, scale):
        return operator(model.net, *inputs, blob_out, beta=beta, scale=scale)

    return add


def _balanced_l1(operator: Callable[..., Blob]) -> BoxLossForm:
    def add(model, inputs, blob_out, *, beta, scale):
        settings = model.config.LIBRA.BALANCED_L1
        return operator(
            model.net, *inputs, blob_out,
            alpha=settings.ALPHA, gamma=settings.GAMMA, formula=settings.FORMULA,
            beta=beta, scale=scale,
        )  # fmt: skip

    return add


BOX_LOSSES.register(DEFAULT)(
    BoxLoss(
        _smooth_l1(ops.smooth_l1_loss),
        _smooth_l1(ops.select_smooth_l1_loss),
        _smooth_l1(ops.weighted_select_smooth_l1_loss),
    )
)
BOX_LOSSES.register(_BALANCED)(
    BoxLoss(
        _balanced_l1(ops.balanced_l1_loss),
        _balanced_l1(ops.select_balanced_l1_loss),
        _balanced_l1(ops.weighted_select_balanced_l1_loss),
    )
)


def numpy_box_loss(penalty: Formula, slope: Formula) -> BoxLoss:
    """Make all forms of a box loss from numpy formulas. It runs on the CPU only.

    Both formulas are tried when the model is built. They must return finite numbers in the shape of
    the difference.

    Args:
        penalty: (difference, beta) -> the penalty of each difference. The difference is a float64
            array of any shape, with no elements at times; the result has its shape.
        slope: (difference, beta) -> the derivative of the penalty, of the same shape.

    Returns:
        An entry for BOX_LOSSES.
    """
    return BoxLoss(
        _numpy_form(penalty, slope, formulas.dense_loss, formulas.dense_loss_gradient),
        _numpy_form(penalty, slope, formulas.select_loss, formulas.select_loss_gradient),
        _numpy_form(
            penalty,
            slope,
            formulas.weighted_select_loss,
            formulas.weighted_select_loss_gradient,
        ),
    )


def _numpy_form(
    penalty: Formula,
    slope: Formula,
    loss: Callable[..., np.ndarray],
    gradient: Callable[..., np.ndarray],
) -> BoxLossForm:
    def add(model, inputs, blob_out, *, beta, scale):
        name = f"LIBRA.BOX_LOSS {box_loss_name(model.config)}"
        if model.num_gpus:
            raise ConfigError(
                f"{name} is written in numpy and runs on the CPU only: set NUM_GPUS to 0"
            )
        _check_formula(penalty, beta, f"the penalty of {name}")
        _check_formula(slope, beta, f"the slope of {name}")

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


def _check_formula(formula: Formula, beta: float, name: str) -> None:
    """Try a formula on differences around 0, on both sides of beta and far beyond it."""
    steps = np.array([-100.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 100.0])
    for difference in (np.zeros((0, 4)), beta * steps.reshape(2, 4)):
        values = np.asarray(formula(difference, beta))
        if values.shape != difference.shape:
            raise ConfigError(
                f"{name} must have the shape of the difference: for {difference.shape} it has "
                f"{values.shape}"
            )
        broken = difference[~np.isfinite(values)]
        if len(broken):
            raise ConfigError(
                f"{name} must be finite: it is not at difference {broken[0]:g}, beta {beta:g}"
            )

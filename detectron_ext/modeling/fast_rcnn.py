"""Fast R-CNN's outputs and losses (Girshick, ICCV 2015): class and boxes of each region."""

from __future__ import annotations

from caffe2.python import brew

from detectron_ext.modeling.box_losses import add_box_loss
from detectron_ext.modeling.layers import Blob, Fill
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.process_sums import add_share
from detectron_ext.sampling.proposal_targets import SAMPLER

_ZERO: Fill = ("ConstantFill", {"value": 0.0})
# |difference| at which the box loss turns linear (Libra R-CNN, section 3.3; Fast R-CNN, equation 3)
_BOX_LOSS_BETA = 1.0


def add_fast_rcnn_outputs(model: DetectionModel, blob: Blob, dim: int) -> None:
    """Add the class scores and the box regressions of R regions.

    Blobs, all float32: ``cls_score`` (R, classes), ``bbox_pred`` (R, 4 * classes), and in testing
    the probabilities ``cls_prob`` (R, classes). With MODEL.CLS_AGNOSTIC_BBOX_REG the boxes have two
    classes, background and foreground.

    Args:
        model: gets the layers; MODEL of its configuration is used.
        blob: features of the regions, float32 (R, dim) or (R, dim, 1, 1).
        dim: number of their channels.
    """
    settings = model.config.MODEL
    classes = settings.NUM_CLASSES
    score = _add_fc(model, blob, "cls_score", dim, classes, std=0.01)
    if not model.train:
        model.net.Softmax(score, "cls_prob")
    box_classes = 2 if settings.CLS_AGNOSTIC_BBOX_REG else classes
    _add_fc(model, blob, "bbox_pred", dim, 4 * box_classes, std=0.001)


def _add_fc(
    model: DetectionModel, blob: Blob, name: str, dim_in: int, dim_out: int, std: float
) -> Blob:
    init: Fill = ("GaussianFill", {"std": std})
    return brew.fc(model, blob, name, dim_in, dim_out, weight_init=init, bias_init=_ZERO)


def add_fast_rcnn_losses(model: DetectionModel) -> list:
    """Add ``loss_cls`` and ``loss_bbox``, each a mean over the regions, and return both blobs.

    LIBRA.LOSS_WEIGHTS and LIBRA.BOX_LOSS apply here and not to the RPN. With several processes each
    mean is multiplied by the process's share of all regions.

    Raises:
        ConfigError: see `add_box_loss`.
    """
    weights = model.config.LIBRA.LOSS_WEIGHTS
    share = add_share(model, "labels_int32", "regions_share")

    def of_process(name: str) -> str:
        return name if share is None else f"{name}_of_process"

    probabilities, class_loss = model.net.SoftmaxWithLoss(
        ["cls_score", "labels_int32"],
        ["cls_prob", of_process("loss_cls")],
        scale=model.loss_scale * float(weights.CLS),
    )
    box_loss = add_box_loss(
        model,
        "dense",
        ("bbox_pred", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights"),
        of_process("loss_bbox"),
        beta=_BOX_LOSS_BETA,
        scale=model.loss_scale * weights.BBOX,
    )
    accuracy = model.net.Accuracy([probabilities, "labels_int32"], of_process("accuracy_cls"))
    losses = [class_loss, box_loss]
    if share is not None:
        losses = [
            model.net.Mul([loss, share], name)
            for loss, name in zip(losses, ("loss_cls", "loss_bbox"))
        ]
        model.net.Mul([accuracy, share], "accuracy_cls")
    model.add_losses(losses)
    model.add_metrics(["accuracy_cls"])
    model.add_sampler(SAMPLER)
    return losses

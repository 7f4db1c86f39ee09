"""The net of a training step in two parts: what computes the gradients, and what applies them.

Losses and gradients are looked at between both, before they change any parameter. Blobs that no
later operator reads are freed meanwhile (`LIBRA.TRAIN.FREE_BLOBS`).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Iterable

import numpy as np
from caffe2.proto import caffe2_pb2
from caffe2.python import workspace

from detectron_ext.engine.allocator import keep_freed_memory
from detectron_ext.modeling.blob_lifetimes import frees_blobs, with_freed_blobs
from detectron_ext.modeling.devices import replica_scopes, unscoped
from detectron_ext.modeling.gradient_clipping import NORM as GRADIENT_NORM
from detectron_ext.sampling.sampling_statistics import counts_blob

if TYPE_CHECKING:
    from detectron_ext.modeling.model import DetectionModel


class StepNets:
    """The two nets of a training step.

    The operators and their order are those of the model's net. On the CPU, with
    LIBRA.TRAIN.FREE_BLOBS, operators `Free` are added.

    Args:
        model: a training model.
        free_blobs: False leaves every blob as the last operator wrote it, whatever the key says.

    Attributes:
        model: the training model.
        gradients: the net that computes losses and gradients.
        update: the net that decays the weights and updates parameters and momenta.
    """

    def __init__(self, model: DetectionModel, free_blobs: bool = True):
        self.model = model
        whole = model.net.Proto()
        end = len(whole.op) - model.num_update_operators
        steps = [[operator] for operator in whole.op]
        self._frees_blobs = free_blobs and frees_blobs(model)
        if self._frees_blobs:
            steps = with_freed_blobs(whole.op, _kept_blobs(model))
        self.gradients = _part(whole, "_gradients", steps[:end], whole.external_input)
        # Its inputs are what the other net has made.
        self.update = _part(whole, "_update", steps[end:], ())

    def create(self) -> None:
        """Create both nets in the workspace. Parameters and inputs must be there."""
        if self._frees_blobs:
            keep_freed_memory()
        for net in (self.gradients, self.update):
            workspace.CreateNet(net, overwrite=True)

    def compute_gradients(self) -> None:
        """Compute the losses and the gradients. Parameters and momenta stay as they are."""
        workspace.RunNet(self.gradients.name)

    def apply_gradients(self) -> None:
        """Update parameters and momenta by the gradients."""
        workspace.RunNet(self.update.name)

    def not_finite(self, also_gradients: bool) -> str:
        """Return what of the computed step is not finite, for a message; "" if all of it is finite.

        Args:
            also_gradients: whether the gradients are looked at, too. That reads all of them.
        """
        losses = self._not_finite_scalars(self.model.losses)
        if losses:
            return f"the loss is {_total(losses.values())} ({', '.join(losses)})"
        norms = self._not_finite_scalars([GRADIENT_NORM] if self._has_norm() else [])
        if norms:
            return f"the norm of the gradients is {_total(norms.values())}"
        gradients = self.model.param_to_grad.values() if also_gradients else ()
        for name in map(str, gradients):
            if not np.isfinite(workspace.FetchBlob(name)).all():
                return f"the gradient {unscoped(name)} is not finite"
        return ""

    def _has_norm(self) -> bool:
        return GRADIENT_NORM in self.model.metrics

    def _not_finite_scalars(self, names: Iterable[str]) -> dict[str, float]:
        """Return those of the scalars that are not finite, summed over the replicas."""
        scopes = replica_scopes(self.model.num_gpus)
        values = {
            name: _total(np.ravel(workspace.FetchBlob(scope + name))[0] for scope in scopes)
            for name in names
        }
        return {name: value for name, value in values.items() if not np.isfinite(value)}


def _total(values: Iterable[float]) -> float:
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        return float(sum(map(float, values)))


def _kept_blobs(model: DetectionModel) -> set[str]:
    """Return the names of the blobs that are read after a step."""
    counts = map(counts_blob, model.samplers)
    return {*model.losses, *model.metrics, *counts}


def _part(whole: Any, suffix: str, steps: Iterable[list], inputs: Iterable[str]) -> Any:
    net = caffe2_pb2.NetDef()
    net.CopyFrom(whole)
    net.name += suffix
    for field, content in (
        ("op", itertools.chain.from_iterable(steps)),
        ("external_input", inputs),
    ):
        net.ClearField(field)
        getattr(net, field).extend(list(content))
    net.ClearField("external_output")
    return net

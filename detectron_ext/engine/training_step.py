"""One training step: feed minibatches, compute and apply gradients, fetch what is reported."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from caffe2.python import core, workspace

from detectron_ext.engine.learning_rate import learning_rate
from detectron_ext.engine.not_finite import NotFinite
from detectron_ext.engine.parameters import feed
from detectron_ext.modeling.devices import replica, replica_scopes
from detectron_ext.sampling.sampling_statistics import counts_blob

if TYPE_CHECKING:
    from detectron_ext.engine.step_nets import StepNets
    from detectron_ext.modeling.model import DetectionModel

_LOG = logging.getLogger(__name__)


def step(
    model: DetectionModel, nets: StepNets, minibatches: list[dict], iteration: int, first: bool
) -> None:
    """Feed one minibatch to each replica, compute the gradients and apply them.

    Raises:
        NotFinite: the losses or the gradients are not finite. No parameter has changed.
    """
    for index, blobs in enumerate(minibatches):
        for name, value in blobs.items():
            feed(model, index, name, value)
    if first:
        nets.create()
    nets.compute_gradients()
    fault = nets.not_finite(also_gradients=model.config.LIBRA.TRAIN.SKIP_NONFINITE > 0)
    if fault:
        raise NotFinite(fault)
    set_rate(model, learning_rate(model.config.SOLVER, iteration))
    nets.apply_gradients()


def set_rate(model: DetectionModel, rate: np.float32) -> None:
    """Set the learning rate, and rescale the momenta if it jumps.

    Caffe2's momenta are past gradients times the rates of their time. Without rescaling, they would
    continue to act at the old rate after a jump (SOLVER.SCALE_MOMENTUM).
    """
    solver = model.config.SOLVER
    scopes = replica_scopes(model.num_gpus)
    old = float(workspace.FetchBlob(scopes[0] + "lr")[0])
    if old == rate:
        return
    for index in range(len(scopes)):
        feed(model, index, "lr", np.array([rate], dtype=np.float32))
    if not solver.SCALE_MOMENTUM or old <= 1e-7:  # there is no rate before the first step
        return
    ratio = max(rate / old, old / rate) if rate > 1e-7 else 1.0
    if ratio <= solver.SCALE_MOMENTUM_THRESHOLD:
        return
    _LOG.debug("learning rate %.6f -> %.6f: rescaling the momenta", old, rate)
    for index, scope in enumerate(scopes):
        with replica(index, model.num_gpus):
            for param in model.trainable_params(scope):
                momentum = param + "_momentum"
                workspace.RunOperatorOnce(
                    core.CreateOperator("Scale", [momentum], [momentum], scale=float(rate / old))
                )


def fetch_scalars(model: DetectionModel) -> dict[str, float]:
    """Return the losses, summed over replicas, and the metrics, averaged over replicas."""
    scopes = replica_scopes(model.num_gpus)
    values = {}
    for name in [*model.losses, *model.metrics]:
        per_replica = [workspace.FetchBlob(scope + name) for scope in scopes]
        total = float(np.sum([np.ravel(value)[0] for value in per_replica]))
        values[name] = total if name in model.losses else total / len(scopes)
    return values


def fetch_sampling_counts(model: DetectionModel) -> dict[str, np.ndarray]:
    """Return the counts of each sampler in this step, summed over replicas."""
    scopes = replica_scopes(model.num_gpus)
    return {
        name: np.sum([workspace.FetchBlob(scope + counts_blob(name)) for scope in scopes], axis=0)
        for name in model.samplers
    }

"""Repeating the step that a training kept because it was not finite."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np
from caffe2.python import workspace

from detectron_ext.config import Config
from detectron_ext.engine.not_finite import KeptStep, read_kept_step
from detectron_ext.engine.parameters import feed, load_parameters
from detectron_ext.engine.step_nets import StepNets
from detectron_ext.errors import UserError
from detectron_ext.modeling import build_model
from detectron_ext.modeling.devices import replica_scopes
from detectron_ext.modeling.model import DetectionModel


def replay(config: Config, path: str) -> list[str]:
    """Repeat a step with the weights that it had, and print its losses.

    The operators run one after the other, so that the first blob that is not finite is found also
    where later operators write to the same blob. Nothing is written.

    Args:
        config: the configuration of the training.
        path: the file ``not_finite.pkl`` of a run's folder.

    Returns:
        The lines that were printed.

    Raises:
        UserError: the file cannot be read, does not fit the configuration, or is of a training on
            another number of devices.
    """
    step = read_kept_step(path)
    workspace.ResetWorkspace()
    model = build_model(config, train=True)
    replicas = max(1, model.num_gpus)
    if len(step.minibatches) != replicas:
        raise UserError(
            f"{path} is of a training on {len(step.minibatches)} devices, and NUM_GPUS and this "
            f"machine give {replicas}"
        )
    workspace.RunNetOnce(model.param_init_net)
    load_parameters(model, path)
    for index, blobs in enumerate(step.minibatches):
        for name, value in blobs.items():
            feed(model, index, name, value)
    lines = [f"iteration {step.iteration}: {step.fault}", *(f"image {p}" for p in step.images)]
    lines += [_first_not_finite(model, step), *_losses(model)]
    print("\n".join(lines))
    return lines


def _first_not_finite(model: DetectionModel, step: KeptStep) -> str:
    """Run the step operator by operator; return a line that names the first blob at fault."""
    for blobs in step.minibatches:
        for name, value in blobs.items():
            if not _is_finite(value):
                return f"the input {name} is not finite"
    operators = StepNets(model, free_blobs=False).gradients.op
    first = ""
    for number, operator in enumerate(operators, 1):
        try:
            workspace.RunOperatorOnce(operator)
        except RuntimeError as error:
            raise UserError(
                f"the kept step does not fit the configuration: {operator.type}, which makes "
                f"{operator.output[0]}, fails; give the configuration of the training"
            ) from error
        for name in _not_finite_outputs(operator) if not first else ():
            inputs = ", ".join(operator.input)
            first = (
                f"the first blob that is not finite is {name}, made by {operator.type} (operator "
                f"{number} of {len(operators)}) of {inputs}"
            )
            break
    return first or "all blobs are finite"


def _not_finite_outputs(operator: Any) -> Iterator[str]:
    return (name for name in operator.output if not _is_finite(workspace.FetchBlob(name)))


def _is_finite(value: Any) -> bool:
    is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return not is_float or bool(np.isfinite(value).all())


def _losses(model: DetectionModel) -> list[str]:
    scopes = replica_scopes(model.num_gpus)
    return [
        f"{scope}{name} = {float(np.ravel(workspace.FetchBlob(scope + name))[0]):g}"
        for scope in scopes
        for name in model.losses
        if workspace.HasBlob(scope + name)
    ]

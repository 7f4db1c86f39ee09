"""Backward pass, sums of gradients over GPUs or processes, and parameter updates."""

from __future__ import annotations

from caffe2.proto import caffe2_pb2
from caffe2.python import core, muji

from detectron_ext.modeling.devices import replica, replica_scopes
from detectron_ext.modeling.gradient_clipping import add_gradient_clipping
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.process_sums import add_gradient_sums, add_reported_sums


def add_backward_pass(model: DetectionModel, losses_by_replica: list) -> None:
    """Add the gradients of the sum of all losses, added up over several GPUs or processes.

    Args:
        model: gets the operators.
        losses_by_replica: for each replica the list of its loss blobs.
    """
    gradients = {}
    for index, losses in enumerate(losses_by_replica):
        with replica(index, model.num_gpus):
            for loss in losses:
                seed = model.net.ConstantFill(loss, [loss + "_grad"], value=1.0)
                gradients[str(loss)] = str(seed)
    model.AddGradientOperators(gradients)
    if model.num_gpus > 1:
        _add_allreduce(model)
    add_gradient_sums(model)
    add_reported_sums(model)


def _add_allreduce(model: DetectionModel) -> None:
    scopes = replica_scopes(model.num_gpus)
    columns = [model.trainable_params(scope) for scope in scopes]
    with core.DeviceScope(core.DeviceOption(caffe2_pb2.CUDA, 0)):
        for copies in zip(*columns):
            gradients = [model.param_to_grad[param] for param in copies]
            if model.config.USE_NCCL:
                model.net.NCCLAllreduce(gradients, gradients)
            else:
                muji.Allreduce(model.net, gradients, reduced_affix="")


def add_parameter_updates(model: DetectionModel) -> None:
    """Add momentum SGD for every trainable parameter of every replica.

    The blob ``lr`` holds the learning rate. It starts at 0 and is set before each step. Biases
    learn twice as fast and do not decay. GroupNorm's scales decay by SOLVER.WEIGHT_DECAY_GN, other
    weights by SOLVER.WEIGHT_DECAY. Before that, LIBRA.CLIP_GRADIENTS limits the gradients' norm.
    The states of the model are updated, too.
    """
    limit = model.config.LIBRA.CLIP_GRADIENTS
    scopes = list(enumerate(replica_scopes(model.num_gpus)))
    for index, scope in scopes if limit else ():
        with replica(index, model.num_gpus):
            add_gradient_clipping(model, model.trainable_params(scope), limit)
    before = len(model.net.Proto().op)
    for index, scope in scopes:
        with replica(index, model.num_gpus):
            _add_replica_updates(model, model.trainable_params(scope))
            for state, value in model.states.items():
                model.net.Copy(value, state)
    model.num_update_operators = len(model.net.Proto().op) - before


def _add_replica_updates(model: DetectionModel, params: list) -> None:
    solver = model.config.SOLVER

    def constant(name, value):
        return model.param_init_net.ConstantFill([], name, shape=[1], value=value)

    lr, one = constant("lr", 0.0), constant("one", 1.0)
    decay, decay_gn = constant("wd", solver.WEIGHT_DECAY), constant("wd_gn", solver.WEIGHT_DECAY_GN)
    biases, gn_params = set(map(str, model.biases)), set(map(str, model.gn_params))
    for param in params:
        gradient = model.param_to_grad[param]
        momentum = model.param_init_net.ConstantFill([param], param + "_momentum", value=0.0)
        if str(param) in biases:
            model.net.Scale(gradient, gradient, scale=2.0)
        elif str(param) in gn_params:
            model.net.WeightedSum([gradient, one, param, decay_gn], gradient)
        elif solver.WEIGHT_DECAY > 0:
            model.net.WeightedSum([gradient, one, param, decay], gradient)
        model.net.MomentumSGDUpdate(
            [gradient, momentum, lr, param],
            [gradient, momentum, param],
            momentum=solver.MOMENTUM,
        )


def share_gradient_memory(model: DetectionModel) -> None:
    """Let gradients that are not needed at the same time share blobs (MEMONGER)."""
    from caffe2.python import memonger  # it imports networkx, which only training needs

    for scope in replica_scopes(model.num_gpus):
        model.net._net = memonger.share_grad_blobs(
            model.net,
            [scope + loss for loss in model.losses],
            {str(gradient) for gradient in model.param_to_grad.values()},
            scope,
            share_activations=model.config.MEMONGER_SHARE_ACTIVATIONS,
        )

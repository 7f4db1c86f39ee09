"""The model helper: Caffe2's own with the layers and records that detectors need."""

from __future__ import annotations

import weakref
from typing import Iterable

from caffe2.python import workspace
from caffe2.python.model_helper import ModelHelper

from detectron_ext.config import Config
from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.layers import Blob, DetectionLayers


class DetectionModel(DetectionLayers, ModelHelper):
    """A Caffe2 model helper (``net``, ``param_init_net``, ``params``) for a detector.

    Attributes:
        config: the configuration that the graph is built from.
        train: whether the graph has losses, gradients and updates.
        num_gpus: number of replicas on GPUs; 0 is one replica on the CPU.
        num_processes: number of processes that train together, each on its part of a minibatch.
        common_worlds: names of the blobs that connect the processes, one for each sum.
        summed: names of the blobs that are summed over the processes.
        losses: unscoped names of the losses that a training step reports.
        metrics: unscoped names of the other scalars that a training step reports.
        samplers: names of the samplers. A training step reports what they drew.
        num_update_operators: number of the net's last operators, which decay the weights and update
            the parameters. The operators before them change neither parameters nor momenta.
        gn_params: GroupNorm's scales and biases, which have their own weight decay.
        states: what a training step remembers for the next one, beside parameters and momenta: the
            unscoped name of each blob, with that of its value after the step. Checkpoints hold
            them; test models have none.
    """

    config: Config

    def __init__(
        self, name: str, config: Config, train: bool, num_gpus: int, num_processes: int = 1
    ):
        arg_scope = {"order": "NCHW", "use_cudnn": num_gpus > 0, "cudnn_exhaustive_search": False}
        super().__init__(name=name, init_params=True, arg_scope=arg_scope)
        self.config = config
        self.train = train
        self.num_gpus = num_gpus
        self.num_processes = num_processes
        self.common_worlds: list = []
        self.summed: set = set()
        self.losses: list = []
        self.metrics: list = []
        self.samplers: list = []
        self.gn_params: list = []
        self.num_update_operators = 0
        self.states: dict[str, str] = {}
        nets = [net.Name() for net in (self.net, self.param_init_net)]
        weakref.finalize(self, _forget_stack_traces, nets)

    @property
    def loss_scale(self) -> float:
        """Factor of every loss. It makes the sum of the replicas' gradients their mean."""
        return 1.0 / max(1, self.num_gpus)

    def trainable_params(self, scope: str = "") -> list:
        """Return the parameters with a gradient whose scoped names start with ``scope``."""
        return [p for p in self.params if p in self.param_to_grad and str(p).startswith(scope)]

    def add_sampler(self, name: str) -> None:
        """Record a sampler to report. The blob sampling_counts_<name> counts what it drew."""
        if name not in self.samplers:
            self.samplers.append(name)

    def add_state(self, name: str, size: int) -> Blob:
        """Add a blob that a step remembers for the next one, one for each replica.

        Args:
            name: unscoped name of the blob, which is (size,) float32 and starts at 0.
            size: number of elements.

        Returns:
            The blob of the replica in scope.
        """
        return self.param_init_net.ConstantFill([], name, shape=[size], value=0.0)

    def update_state(self, name: str, value: str) -> None:
        """Let a state become another blob when the parameters are updated.

        Until then the state stays as it is, so that a step can be skipped.

        Args:
            name: unscoped name of the state.
            value: unscoped name of the blob with its new value.
        """
        self.states[name] = value


def _forget_stack_traces(nets: Iterable[str]) -> None:
    """Remove the stack traces that Caffe2 keeps for ever of each operator of a net that is gone.

    They take about half a megabyte a model, which a process that makes many models would lose.
    """
    for name in nets:
        workspace.operator_tracebacks.pop(name, None)


def group_norm_groups(dim: int, config: Settings, width: float = 1.0) -> int:
    """Return the number of GroupNorm's groups for ``dim`` channels.

    Args:
        dim: number of channels of the layer.
        config: GROUP_NORM is used.
        width: width of the layer's network relative to the standard one. NUM_GROUPS is multiplied
            by it, so that a group has as many channels as in the standard network.

    Raises:
        ConfigError: the number of channels is not divisible.
    """
    settings = config.GROUP_NORM
    if settings.DIM_PER_GP > 0:
        groups, rest = divmod(dim, settings.DIM_PER_GP)
        key = f"GROUP_NORM.DIM_PER_GP {settings.DIM_PER_GP}"
    else:
        groups = max(1, int(settings.NUM_GROUPS * width))
        rest = dim % groups
        key = f"GROUP_NORM.NUM_GROUPS {settings.NUM_GROUPS}"
    if rest:
        raise ConfigError(f"{key} does not divide a layer of {dim} channels; choose one that does")
    return groups

"""The model helper: Caffe2's own, plus the layers and the records that detectors need."""

from __future__ import annotations

from caffe2.python.model_helper import ModelHelper

from detectron_ext.errors import ConfigError
from detectron_ext.modeling.layers import DetectionLayers


class DetectionModel(DetectionLayers, ModelHelper):
    """A Caffe2 model helper (``net``, ``param_init_net``, ``params``) for a detector.

    Attributes:
        config: the configuration the graph is built from.
        train: whether the graph has losses, gradients and updates.
        num_gpus: replicas on GPUs; 0 is one replica on the CPU.
        losses, metrics: unscoped names of the scalars a training step reports.
        samplers: names of the samplers whose counts a training step reports.
        gn_params: GroupNorm's scales and biases, which have a weight decay of their own.
    """

    def __init__(self, name: str, config, train: bool, num_gpus: int):
        arg_scope = {"order": "NCHW", "use_cudnn": num_gpus > 0, "cudnn_exhaustive_search": False}
        super().__init__(name=name, init_params=True, arg_scope=arg_scope)
        self.config = config
        self.train = train
        self.num_gpus = num_gpus
        self.losses: list = []
        self.metrics: list = []
        self.samplers: list = []
        self.gn_params: list = []

    @property
    def loss_scale(self) -> float:
        """Factor of every loss, so that gradients summed over replicas are their mean."""
        return 1.0 / max(1, self.num_gpus)

    def trainable_params(self, scope: str = "") -> list:
        """Parameters with a gradient whose scoped names start with ``scope``."""
        return [p for p in self.params if p in self.param_to_grad and str(p).startswith(scope)]

    def add_sampler(self, name: str) -> None:
        """Record a sampler to report: the blob sampling_counts_<name> counts what it drew."""
        if name not in self.samplers:
            self.samplers.append(name)


def group_norm_groups(dim: int, config, width: float = 1.0) -> int:
    """Number of GroupNorm groups for ``dim`` channels.

    Args:
        width: width of the layer's network relative to the standard one; NUM_GROUPS shrinks with
            it, so that a narrow network keeps the channels per group of a full one.

    Raises:
        ConfigError: when the channels do not divide.
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

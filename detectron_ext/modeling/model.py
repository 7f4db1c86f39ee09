"""The model helper: Caffe2's own, plus the layers and the records that detectors need."""

from __future__ import annotations

from caffe2.python import brew
from caffe2.python.model_helper import ModelHelper
from caffe2.python.modeling import initializers
from caffe2.python.modeling.parameter_info import ParameterTags

from detectron_ext.errors import ConfigError
from detectron_ext.modeling.devices import unscoped


class DetectionModel(ModelHelper):
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

    def conv(self, blob_in, blob_out, dim_in, dim_out, kernel, *, shared_with=None, **options):
        """Convolution; with ``shared_with`` (another layer's name) it uses that layer's w and b."""
        if not self.config.LIBRA.FAST_CONV:
            options["fast_conv"] = 0
        if shared_with is None:
            return brew.conv(self, blob_in, blob_out, dim_in, dim_out, kernel, **options)
        for key in ("weight_init", "bias_init"):
            options.pop(key, None)
        if self.num_gpus:
            options.update(engine="CUDNN", exhaustive_search=False)
        inputs = [blob_in, shared_with + "_w", shared_with + "_b"]
        return self.net.Conv(inputs, blob_out, kernel=kernel, order="NCHW", **options)

    def relu(self, blob):
        """Rectifier, in place."""
        return brew.relu(self, blob, blob)

    def affine_channel(self, blob_in, blob_out, dim, in_place):
        """Fixed per-channel scale ``<blob_out>_s`` and bias ``<blob_out>_b``: frozen BatchNorm."""
        scale = self._fixed_param(str(blob_out) + "_s", dim, 1.0, ParameterTags.WEIGHT)
        bias = self._fixed_param(str(blob_out) + "_b", dim, 0.0, ParameterTags.BIAS)
        return self.net.AffineChannel([blob_in, scale, bias], blob_in if in_place else blob_out)

    def _fixed_param(self, name, dim, value, tag):
        fill = initializers.Initializer("ConstantFill", value=value)
        return self.create_param(param_name=name, shape=[dim], initializer=fill, tags=tag)

    def conv_affine(self, blob_in, prefix, dim_in, dim_out, kernel, *, in_place=True, **options):
        """Convolution without bias, then frozen BatchNorm (``<prefix>_bn``)."""
        conv = self.conv(blob_in, prefix, dim_in, dim_out, kernel, no_bias=1, **options)
        return self.affine_channel(conv, prefix + "_bn", dim_out, in_place)

    def conv_gn(self, blob_in, prefix, dim_in, dim_out, kernel, *, groups, **options):
        """Convolution without bias, then GroupNorm (``<prefix>_gn``)."""
        options.pop("bias_init", None)
        conv = self.conv(blob_in, prefix, dim_in, dim_out, kernel, no_bias=1, **options)
        return self.group_norm(conv, prefix + "_gn", dim_out, groups)

    def group_norm(self, blob_in, blob_out, dim, groups):
        """GroupNorm with learned scale ``_s`` and bias ``_b``."""
        epsilon = self.config.GROUP_NORM.EPSILON
        out = brew.spatial_gn(self, blob_in, blob_out, dim, group=groups, epsilon=epsilon)
        self.gn_params += self.params[-2:]
        return out

    def add_losses(self, blobs) -> None:
        """Record losses by their unscoped names; replicas share one record."""
        self.losses += [n for n in map(unscoped, blobs) if n not in self.losses]

    def add_metrics(self, blobs) -> None:
        """Record scalars to report that are not losses."""
        self.metrics += [n for n in map(unscoped, blobs) if n not in self.metrics]

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

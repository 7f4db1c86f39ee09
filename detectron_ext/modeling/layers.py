"""Layers and records that detectors add to a Caffe2 model helper.

They are a mixin class because the adapter for upstream Detectron adds them to upstream's model
helper, too.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Tuple, Union

from caffe2.python import brew, core
from caffe2.python.modeling import initializers
from caffe2.python.modeling.parameter_info import ParameterTags

from detectron_ext import ops
from detectron_ext.config.settings import Settings
from detectron_ext.modeling.devices import unscoped

# A blob of a net, or its name. A name gets the prefix of the current scope when it is used.
Blob = Union[core.BlobReference, str]
# An operator that fills a parameter, and its arguments, such as ("ConstantFill", {"value": 0.0}).
Fill = Tuple[str, Dict[str, Any]]

# What each value of LIBRA.FAST_CONV adds to the arguments of the operator Conv.
_CONV_ARGUMENTS: dict[str, dict[str, Any]] = {
    "auto": {},
    "True": {},
    "direct": {"algorithm": "direct"},
    "winograd": {"algorithm": "winograd"},
    "False": {"fast_conv": 0},
}


class DetectionLayers:
    """A mixin class for a Caffe2 model helper that has these attributes.

    Attributes:
        config: the configuration that the graph is built from.
        num_gpus: number of replicas on GPUs; 0 is one replica on the CPU.
        losses: unscoped names of the losses that a training step reports.
        metrics: unscoped names of the other scalars that a training step reports.
        gn_params: GroupNorm's scales and biases, which have their own weight decay.
    """

    config: Settings
    num_gpus: int
    losses: list
    metrics: list
    gn_params: list
    net: Any
    params: list
    create_param: Any
    init_params: bool

    def conv(
        self,
        blob_in: Blob,
        blob_out: str,
        dim_in: int,
        dim_out: int,
        kernel: int,
        *,
        shared_with: str | None = None,
        **options: Any,
    ) -> Blob:
        """Add a convolution.

        Args:
            blob_in: float32 (N, dim_in, H, W).
            blob_out: name of the output; the parameters are ``<blob_out>_w``, float32
                (dim_out, dim_in / group, kernel, kernel), and ``<blob_out>_b``, float32 (dim_out,).
            dim_in: number of input channels.
            dim_out: number of output channels.
            kernel: side of the filters, in cells.
            shared_with: name of an earlier layer, to use its parameters. weight_init and bias_init
                are ignored then.
            options: Caffe2's arguments, with their defaults: stride (1), pad (0), or pad_t, pad_l,
                pad_b and pad_r, dilation (1), group (1) and no_bias (0). weight_init and bias_init
                are each a `Fill`.

        Returns:
            The output blob, float32 (N, dim_out, H', W') with
            H' = (H + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1, and W' likewise.
        """
        options.update(_CONV_ARGUMENTS[self.config.LIBRA.FAST_CONV])
        if shared_with is None:
            return brew.conv(self, blob_in, blob_out, dim_in, dim_out, kernel, **options)
        for key in ("weight_init", "bias_init"):
            options.pop(key, None)
        if self.num_gpus:
            options.update(engine="CUDNN", exhaustive_search=False)
        inputs = [blob_in, shared_with + "_w", shared_with + "_b"]
        return self.net.Conv(inputs, blob_out, kernel=kernel, order="NCHW", **options)

    def conv_parameters(
        self,
        name: str,
        dim_in: int,
        dim_out: int,
        kernel: int,
        weight_init: Fill,
        bias_init: Fill,
    ) -> tuple:
        """Add the parameters of a convolution without the convolution itself.

        Args:
            name: name of the layer; the parameters are ``<name>_w`` and ``<name>_b``.
            dim_in: number of input channels.
            dim_out: number of output channels.
            kernel: side of the filters, in cells.
            weight_init: fills the weights.
            bias_init: fills the biases.

        Returns:
            The weights, float32 (dim_out, dim_in, kernel, kernel), and the biases, float32
            (dim_out,).
        """
        shapes = {"w": [dim_out, dim_in, kernel, kernel], "b": [dim_out]}
        inits = {"w": weight_init, "b": bias_init}
        tags = {"w": ParameterTags.WEIGHT, "b": ParameterTags.BIAS}
        return tuple(
            self.create_param(
                param_name=f"{name}_{part}",
                shape=shapes[part],
                initializer=self._initializer(inits[part]),
                tags=tags[part],
            )
            for part in shapes
        )

    def _initializer(self, fill: Fill) -> Any:
        if not self.init_params:
            return initializers.ExternalInitializer()
        operator, arguments = fill
        return initializers.Initializer(operator, **arguments)

    def relu(self, blob: Blob) -> Blob:
        """Add a rectifier that overwrites the blob, and return the blob."""
        return brew.relu(self, blob, blob)

    def affine_channel(
        self, blob_in: Blob, blob_out: str, dim: int, in_place: bool, relu6: bool = False
    ) -> Blob:
        """Add a fixed scale and bias of each channel: frozen BatchNorm.

        Args:
            blob_in: float32 (N, dim, H, W).
            blob_out: name of the output; the parameters are ``<blob_out>_s`` and ``<blob_out>_b``,
                float32 (dim,). They do not train.
            dim: number of channels.
            in_place: overwrite ``blob_in`` instead of writing ``blob_out``. The names of the
                parameters do not change.
            relu6: limit the result to 0 ... 6.

        Returns:
            The output blob, of the shape of ``blob_in``.
        """
        scale = self._fixed_param(str(blob_out) + "_s", dim, 1.0, ParameterTags.WEIGHT)
        bias = self._fixed_param(str(blob_out) + "_b", dim, 0.0, ParameterTags.BIAS)
        output = blob_in if in_place else blob_out
        if relu6:
            return ops.affine_channel_clip(self.net, blob_in, scale, bias, output, min=0.0, max=6.0)
        return self.net.AffineChannel([blob_in, scale, bias], output)

    def _fixed_param(self, name: str, dim: int, value: float, tag: str) -> Blob:
        fill = initializers.Initializer("ConstantFill", value=value)
        return self.create_param(param_name=name, shape=[dim], initializer=fill, tags=tag)

    def conv_affine(
        self,
        blob_in: Blob,
        prefix: str,
        dim_in: int,
        dim_out: int,
        kernel: int,
        *,
        in_place: bool = True,
        relu6: bool = False,
        **options: Any,
    ) -> Blob:
        """Add a convolution without bias, then frozen BatchNorm.

        Args:
            blob_in: float32 (N, dim_in, H, W).
            prefix: name of the convolution; the normalisation is ``<prefix>_bn``.
            dim_in: number of input channels.
            dim_out: number of output channels.
            kernel: side of the filters, in cells.
            in_place: let the normalisation overwrite the convolution's output.
            relu6: limit the normalised numbers to 0 ... 6.
            options: as in `conv`.

        Returns:
            The output blob, with the shape of `conv`'s.
        """
        conv = self.conv(blob_in, prefix, dim_in, dim_out, kernel, no_bias=1, **options)
        return self.affine_channel(conv, prefix + "_bn", dim_out, in_place, relu6)

    def conv_gn(
        self,
        blob_in: Blob,
        prefix: str,
        dim_in: int,
        dim_out: int,
        kernel: int,
        *,
        groups: int,
        **options: Any,
    ) -> Blob:
        """Add a convolution without bias, then GroupNorm (Wu and He, ECCV 2018).

        Args:
            blob_in: float32 (N, dim_in, H, W).
            prefix: name of the convolution; the normalisation is ``<prefix>_gn``.
            dim_in: number of input channels.
            dim_out: number of output channels.
            kernel: side of the filters, in cells.
            groups: number of groups of channels; it must divide dim_out.
            options: as in `conv`; bias_init is ignored.

        Returns:
            The output blob, with the shape of `conv`'s.
        """
        options.pop("bias_init", None)
        conv = self.conv(blob_in, prefix, dim_in, dim_out, kernel, no_bias=1, **options)
        return self.group_norm(conv, prefix + "_gn", dim_out, groups)

    def group_norm(self, blob_in: Blob, blob_out: str, dim: int, groups: int) -> Blob:
        """Add GroupNorm with a learned scale and bias.

        Args:
            blob_in: float32 (N, dim, H, W).
            blob_out: name of the output; the parameters are ``<blob_out>_s`` and ``<blob_out>_b``,
                float32 (dim,).
            dim: number of channels.
            groups: number of groups of channels; it must divide dim.

        Returns:
            The output blob, of the shape of ``blob_in``.
        """
        epsilon = self.config.GROUP_NORM.EPSILON
        out = brew.spatial_gn(self, blob_in, blob_out, dim, group=groups, epsilon=epsilon)
        self.gn_params += self.params[-2:]
        return out

    def add_losses(self, blobs: Iterable[Blob]) -> None:
        """Record losses to report, by their unscoped names: all replicas have one record."""
        self.losses += [n for n in map(unscoped, blobs) if n not in self.losses]

    def add_metrics(self, blobs: Iterable[Blob]) -> None:
        """Record other scalars to report, by their unscoped names."""
        self.metrics += [n for n in map(unscoped, blobs) if n not in self.metrics]

"""Layers and records that detectors add to a Caffe2 model helper.

A mixin, so that another model helper than ours can have them: the adapter for upstream Detectron
gives them to that one's.
"""

from __future__ import annotations

from typing import Any

from caffe2.python import brew
from caffe2.python.modeling import initializers
from caffe2.python.modeling.parameter_info import ParameterTags

from detectron_ext.modeling.devices import unscoped


class DetectionLayers:
    """Needs a Caffe2 model helper beside it, and these attributes.

    Attributes:
        config: the configuration the graph is built from.
        num_gpus: replicas on GPUs; 0 is one replica on the CPU.
        losses, metrics: lists of unscoped names of the scalars a training step reports.
        gn_params: list of GroupNorm's scales and biases, which have a weight decay of their own.
    """

    config: Any
    num_gpus: int
    losses: list
    metrics: list
    gn_params: list
    net: Any
    params: list
    create_param: Any
    init_params: bool

    def conv(self, blob_in, blob_out, dim_in, dim_out, kernel, *, shared_with=None, **options):
        """Add a convolution.

        Args:
            blob_in: float32 (N, dim_in, H, W).
            blob_out: name of the output; the parameters are ``<blob_out>_w``, float32
                (dim_out, dim_in / group, kernel, kernel), and ``<blob_out>_b``, float32 (dim_out,).
            dim_in, dim_out: channels.
            kernel: side of the filters, in cells.
            shared_with: name of an earlier layer whose parameters are used; weight_init and
                bias_init are ignored then.
            options: Caffe2's arguments: stride (1), pad (0) or pad_t, pad_l, pad_b and pad_r,
                dilation (1), group (1), no_bias; weight_init and bias_init, each (operator that
                fills a blob, its arguments).

        Returns:
            The output blob, float32 (N, dim_out, H', W') with
            H' = (H + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1, and W' likewise.
        """
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

    def conv_parameters(self, name, dim_in, dim_out, kernel, weight_init, bias_init) -> tuple:
        """Add the parameters that `conv` would give a layer, without the layer.

        Args:
            name: of the layer; the parameters are ``<name>_w`` and ``<name>_b``.
            dim_in, dim_out: channels.
            kernel: side of the filters, in cells.
            weight_init, bias_init: (operator that fills a blob, its arguments).

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

    def _initializer(self, operator_and_arguments):
        if not self.init_params:
            return initializers.ExternalInitializer()
        operator, arguments = operator_and_arguments
        return initializers.Initializer(operator, **arguments)

    def relu(self, blob):
        """Add a rectifier, in place; returns the blob."""
        return brew.relu(self, blob, blob)

    def relu6(self, blob):
        """Add a rectifier that ends at 6, in place; returns the blob."""
        return self.net.Clip(blob, blob, min=0.0, max=6.0)

    def affine_channel(self, blob_in, blob_out, dim, in_place):
        """Add a fixed scale and bias of each channel: frozen BatchNorm.

        Args:
            blob_in: float32 (N, dim, H, W).
            blob_out: name of the output; the parameters, which do not train, are ``<blob_out>_s``
                and ``<blob_out>_b``, float32 (dim,).
            dim: channels.
            in_place: overwrite ``blob_in`` instead; the parameters keep their names.

        Returns:
            The output blob, shaped as ``blob_in``.
        """
        scale = self._fixed_param(str(blob_out) + "_s", dim, 1.0, ParameterTags.WEIGHT)
        bias = self._fixed_param(str(blob_out) + "_b", dim, 0.0, ParameterTags.BIAS)
        return self.net.AffineChannel([blob_in, scale, bias], blob_in if in_place else blob_out)

    def _fixed_param(self, name, dim, value, tag):
        fill = initializers.Initializer("ConstantFill", value=value)
        return self.create_param(param_name=name, shape=[dim], initializer=fill, tags=tag)

    def conv_affine(self, blob_in, prefix, dim_in, dim_out, kernel, *, in_place=True, **options):
        """Add a convolution without bias, then frozen BatchNorm.

        Args:
            blob_in, dim_in, dim_out, kernel, options: as in `conv`.
            prefix: name of the convolution; the normalisation is ``<prefix>_bn``.
            in_place: let the normalisation overwrite the convolution's output.

        Returns:
            The output blob, as of `conv`.
        """
        conv = self.conv(blob_in, prefix, dim_in, dim_out, kernel, no_bias=1, **options)
        return self.affine_channel(conv, prefix + "_bn", dim_out, in_place)

    def conv_gn(self, blob_in, prefix, dim_in, dim_out, kernel, *, groups, **options):
        """Add a convolution without bias, then GroupNorm (Wu and He, ECCV 2018).

        Args:
            blob_in, dim_in, dim_out, kernel, options: as in `conv`; bias_init is ignored.
            prefix: name of the convolution; the normalisation is ``<prefix>_gn``.
            groups: number of groups of channels; it must divide dim_out.

        Returns:
            The output blob, as of `conv`.
        """
        options.pop("bias_init", None)
        conv = self.conv(blob_in, prefix, dim_in, dim_out, kernel, no_bias=1, **options)
        return self.group_norm(conv, prefix + "_gn", dim_out, groups)

    def group_norm(self, blob_in, blob_out, dim, groups):
        """Add GroupNorm with a learned scale and bias.

        Args:
            blob_in: float32 (N, dim, H, W).
            blob_out: name of the output; the parameters are ``<blob_out>_s`` and ``<blob_out>_b``,
                float32 (dim,).
            dim: channels.
            groups: number of groups of channels; it must divide dim.

        Returns:
            The output blob, shaped as ``blob_in``.
        """
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

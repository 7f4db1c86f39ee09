"""EfficientNet-Lite0 without its classifier.

EfficientNet: Tan and Le, ICML 2019. The Lite networks (2020) are designed for CPUs: they have no
squeeze-and-excitation, and ReLU6 replaces swish. The network consists of the inverted residual
blocks of MobileNetV2 (Sandler et al., CVPR 2018). In each block, a 1x1 convolution increases the
number of channels, a depthwise convolution filters each channel, and a second 1x1 convolution
reduces the number of channels.

The network is divided into stages 2 to 5. The map at the end of stage k has stride 2**k; a pyramid
starts from these maps. Blobs are named after stage, block and layer: ``mb4_1_depthwise_w`` is the
weight of the depthwise convolution in the second block (number 1) of stage 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from detectron_ext.modeling.devices import unscoped
from detectron_ext.modeling.model import DetectionModel

STEM = "stem"
STEM_DIM = 32
# Approximate standard deviation of the input, a pixel minus PIXEL_MEANS, in photographs.
_PIXEL_DEVIATION = 64.0


@dataclass(frozen=True)
class Block:
    """One inverted residual block.

    Attributes:
        name: prefix of the names of its blobs.
        kernel: rows and columns of a depthwise filter.
        stride: stride of the depthwise convolution.
        dim_in: number of channels of the block's input.
        dim_inner: number of channels of the depthwise convolution.
        dim: number of channels of the block's output.
    """

    name: str
    kernel: int
    stride: int
    dim_in: int
    dim_inner: int
    dim: int

    @property
    def expands(self) -> bool:
        """Whether the block begins with a 1x1 convolution that increases the number of channels."""
        return self.dim_inner != self.dim_in

    @property
    def has_shortcut(self) -> bool:
        """Whether the input of the block is added to its output."""
        return self.stride == 1 and self.dim_in == self.dim


# Stage -> groups of equal blocks, each as: number of blocks, kernel, stride of the first block (the
# others have stride 1), dim_inner / dim_in, channels of the output.
_ROWS = {
    2: ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24)),
    3: ((2, 5, 2, 6, 40),),
    4: ((3, 3, 2, 6, 80), (3, 5, 1, 6, 112)),
    5: ((4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
}


def _blocks() -> dict[int, tuple[Block, ...]]:
    stages, dim_in = {}, STEM_DIM
    for stage, rows in _ROWS.items():
        blocks: list[Block] = []
        for repeats, kernel, first_stride, expansion, dim in rows:
            for index in range(repeats):
                name, stride = f"mb{stage}_{len(blocks)}", first_stride if index == 0 else 1
                blocks.append(Block(name, kernel, stride, dim_in, expansion * dim_in, dim))
                dim_in = dim
        stages[stage] = tuple(blocks)
    return stages


BLOCKS = _blocks()
"""The blocks of stages 2 to 5. Stage 2 begins after the stem."""


def add_efficientnet(model: DetectionModel, blob_in: str = "data", last_stage: int = 5) -> list:
    """Add the network, from its stem to stage ``last_stage``.

    Each convolution is followed by a frozen scale and bias in place of BatchNorm, as in Detectron's
    ResNets.

    Args:
        model: the model to add to. Its TRAIN.FREEZE_AT is the last stage that is not trained; the
            stem belongs to stage 2.
        blob_in: blob of the images, float32 (N, 3, H, W), BGR minus PIXEL_MEANS.
        last_stage: number of the last stage to add, 2 to 5.

    Returns:
        One pair (unscoped blob name, number of channels) for the map at the end of each stage,
        finest map first. The maps have 24, 40, 112 and 320 channels and strides 4, 8, 16 and 32.
        Each stride of 2 halves the sides of a map and rounds them up.
    """
    blob = _add_stem(model, blob_in)
    stages = []
    for stage in range(2, last_stage + 1):
        for block in BLOCKS[stage]:
            blob = _add_block(model, block, blob, keep_sum=block is BLOCKS[stage][-1])
        if stage <= model.config.TRAIN.FREEZE_AT:
            # At every frozen stage, because a pyramid starts from the map of each stage.
            model.net.StopGradient(blob, blob)
        stages.append((unscoped(blob), BLOCKS[stage][-1].dim))
    return stages


def _add_stem(model, blob_in):
    # Nothing uses the gradient of the image, and computing it takes long.
    options = {**_window(3, 2), "no_gradient_to_input": 1}
    weight_init = _gaussian(fan_in=27, gain=1 / _PIXEL_DEVIATION**2)
    return model.conv_affine(
        blob_in, STEM, 3, STEM_DIM, 3, relu6=True, weight_init=weight_init, **options
    )


def _add_block(model, block: Block, blob_in, keep_sum: bool):
    """Add a block and return its output.

    If ``keep_sum``, the sum with the shortcut gets its own blob ``<name>_sum``. Otherwise the sum
    overwrites the output of the last convolution, which saves memory.
    """
    blob, name, inner = blob_in, block.name, block.dim_inner
    if block.expands:
        init = _gaussian(block.dim_in)
        blob = model.conv_affine(
            blob, name + "_expand", block.dim_in, inner, 1, relu6=True, weight_init=init
        )
    blob = model.conv_affine(
        blob, name + "_depthwise", inner, inner, block.kernel,
        group=inner, relu6=True, weight_init=_gaussian(block.kernel**2, gain=2),
        **_window(block.kernel, block.stride),
    )  # fmt: skip
    # There is no BatchNorm that could normalize the sums, so they grow from block to block. Smaller
    # initial weights in blocks with a shortcut limit this growth.
    init = _gaussian(inner, gain=0.5 if block.has_shortcut else 2)
    project = name + "_project"
    blob = model.conv_affine(
        blob, project, inner, block.dim, 1, in_place=not block.has_shortcut, weight_init=init
    )
    if not block.has_shortcut:
        return blob
    return model.net.Sum([blob, blob_in], name + "_sum" if keep_sum else blob)


def _gaussian(fan_in: int, gain: float = 1.0) -> tuple:
    """Return an initializer of weights with variance gain / fan_in.

    Gain 2 keeps the variance if the weights follow a rectifier (He et al., ICCV 2015).
    """
    return "GaussianFill", {"std": math.sqrt(gain / fan_in)}


def _window(kernel: int, stride: int) -> dict:
    """Return arguments of a convolution: its stride, and padding like TensorFlow's SAME.

    At stride 2, SAME pads an even side by kernel - 2 cells, and an odd side by kernel - 1 cells. It
    puts the smaller half before the side. Caffe2 fixes the padding when the net is built, when the
    size of the map is not known. Therefore (kernel - 2) // 2 cells are always added before a side,
    and kernel - 1 cells in total. For an even side the result is that of SAME, because the filters
    do not reach the last added cell. For an odd side the output has as many cells as with SAME,
    but each cell lies half an output cell further right or down.
    """
    if stride == 1:
        return {"pad": kernel // 2}
    before = (kernel - 2) // 2
    after = kernel - 1 - before
    pads = {"pad_t": before, "pad_l": before, "pad_b": after, "pad_r": after}
    # cuDNN cannot pad the two sides differently. Caffe2's own CUDA convolution can.
    return {"stride": stride, **pads, "use_cudnn": False}

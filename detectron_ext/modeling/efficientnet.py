"""EfficientNet-Lite0 without its classifier.

EfficientNet: Tan and Le, ICML 2019. The Lite networks (2020) are made for CPUs: no squeeze and
excitation, and ReLU6 in place of swish. Its blocks are MobileNetV2's inverted residuals (Sandler et
al., CVPR 2018): a 1x1 convolution expands, a depthwise one filters, a 1x1 convolution projects.

``mb4_1_depthwise_w`` is the weight of the depthwise convolution of the second block of stage 4.
A stage ends in the map that a pyramid starts from: stage 4 in that of stride 2**4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from detectron_ext.modeling.devices import unscoped
from detectron_ext.modeling.model import DetectionModel

STEM = "stem"
STEM_DIM = 32
# Detectron's input is a pixel minus the mean. Its standard deviation in photographs is about this.
_PIXEL_DEVIATION = 64.0


@dataclass(frozen=True)
class Block:
    """One inverted residual block.

    Attributes:
        name: prefix of its blobs.
        kernel: side of the depthwise filters, in cells.
        stride: of the depthwise convolution.
        dim_in, dim_inner, dim: channels in, of the depthwise convolution, and out.
    """

    name: str
    kernel: int
    stride: int
    dim_in: int
    dim_inner: int
    dim: int

    @property
    def expands(self) -> bool:
        """Whether it begins with a 1x1 convolution that adds channels."""
        return self.dim_inner != self.dim_in

    @property
    def has_shortcut(self) -> bool:
        """Whether its input is added to its output."""
        return self.stride == 1 and self.dim_in == self.dim


# Blocks in a row: repeats, kernel, stride of the first, expansion, channels.
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

    BatchNorm is a frozen scale and bias, as in Detectron's ResNets.

    Args:
        model: TRAIN.FREEZE_AT is used: the last stage that is not trained. The stem belongs to
            stage 2.
        blob_in: the images, float32 (N, 3, H, W), BGR minus PIXEL_MEANS.
        last_stage: 2 to 5.

    Returns:
        (unscoped blob name, channels) of the maps that the stages end in, in order: 24, 40, 112 and
        320 channels at strides 4, 8, 16 and 32. A side of a map is half of that before, rounded up.
    """
    blob = _add_stem(model, blob_in)
    stages = []
    for stage in range(2, last_stage + 1):
        for block in BLOCKS[stage]:
            blob = _add_block(model, block, blob, keep_sum=block is BLOCKS[stage][-1])
        if stage <= model.config.TRAIN.FREEZE_AT:
            # After each of these stages, because a pyramid starts from its map, too.
            model.net.StopGradient(blob, blob)
        stages.append((unscoped(blob), BLOCKS[stage][-1].dim))
    return stages


def _add_stem(model, blob_in):
    # Nothing lies before the image: its gradient would be dear and unused.
    options = {**_window(3, 2), "no_gradient_to_input": 1}
    weight_init = _gaussian(fan_in=27, gain=1 / _PIXEL_DEVIATION**2)
    blob = model.conv_affine(blob_in, STEM, 3, STEM_DIM, 3, weight_init=weight_init, **options)
    return model.relu6(blob)


def _add_block(model, block: Block, blob_in, keep_sum: bool):
    """Add a block; ``keep_sum`` names its sum ``<name>_sum``, other sums are made in place."""
    blob, name, inner = blob_in, block.name, block.dim_inner
    if block.expands:
        init = _gaussian(block.dim_in)
        blob = model.conv_affine(blob, name + "_expand", block.dim_in, inner, 1, weight_init=init)
        blob = model.relu6(blob)
    blob = model.conv_affine(
        blob, name + "_depthwise", inner, inner, block.kernel,
        group=inner, weight_init=_gaussian(block.kernel**2, gain=2),
        **_window(block.kernel, block.stride),
    )  # fmt: skip
    blob = model.relu6(blob)
    # Without BatchNorm a sum grows from block to block: what is added starts at half the size.
    init = _gaussian(inner, gain=0.5 if block.has_shortcut else 2)
    project = name + "_project"
    blob = model.conv_affine(
        blob, project, inner, block.dim, 1, in_place=not block.has_shortcut, weight_init=init
    )
    if not block.has_shortcut:
        return blob
    return model.net.Sum([blob, blob_in], name + "_sum" if keep_sum else blob)


def _gaussian(fan_in: int, gain: float = 1.0) -> tuple:
    """Initial weights that keep the variance (He et al., ICCV 2015): gain 2 after a rectifier."""
    return "GaussianFill", {"std": math.sqrt(gain / fan_in)}


def _window(kernel: int, stride: int) -> dict:
    """Return a convolution's stride and padding: TensorFlow's SAME, for even sides at stride 2.

    SAME adds kernel - 2 rows to an even side at stride 2, the smaller half of them before it. An
    odd side gets one row more, so the same halves would give a cell less than SAME. Caffe2 fixes
    the padding when the net is built. Therefore one row is added behind: even sides never reach it,
    and odd ones get SAME's number of cells, each half a cell after SAME's place.
    """
    if stride == 1:
        return {"pad": kernel // 2}
    before = (kernel - 2) // 2
    after = kernel - 1 - before
    pads = {"pad_t": before, "pad_l": before, "pad_b": after, "pad_r": after}
    # cuDNN has no uneven padding; Caffe2's own CUDA convolution has.
    return {"stride": stride, **pads, "use_cudnn": False}

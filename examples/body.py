"""A body that is not a residual network: one strided convolution per stage, and a pyramid."""

from detectron_ext.modeling.bodies import BODIES
from detectron_ext.modeling.fpn import add_fpn

CHANNELS = (32, 64, 128, 256)  # of the maps with strides 4, 8, 16 and 32
NUM_GROUPS = 8
MSRA = ("MSRAFill", {})


@BODIES.register("plain_net")
def add_plain_net(model):
    """Add the stages on the blob "data", (N, 3, H, W), and a pyramid; return the pyramid."""

    def add_conv(blob, name, dim_in, dim):
        options = {"stride": 2, "pad": 1, "weight_init": MSRA, "groups": NUM_GROUPS}
        return model.relu(model.conv_gn(blob, name, dim_in, dim, 3, **options))

    blob, dim_in = add_conv("data", "stem", 3, 16), 16
    stages = []
    for number, dim in enumerate(CHANNELS, start=2):
        blob = add_conv(blob, f"stage{number}", dim_in, dim)
        stages.append((f"stage{number}_gn", dim))
        dim_in = dim
    return add_fpn(model, stages)

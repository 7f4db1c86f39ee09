"""A refinement of the balanced pyramid: two convolutions with a shortcut around them."""

from detectron_ext.modeling.balanced_pyramid import REFINEMENTS

SMALL = ("GaussianFill", {"std": 0.01})
ZERO = ("ConstantFill", {"value": 0.0})


@REFINEMENTS.register("residual")
def refine_residual(model, blob, dim):
    """Return blob + conv(relu(conv(blob))). Before training, the last convolution returns 0."""
    inner = model.relu(
        model.conv(blob, "bfp_inner", dim, dim, 3, pad=1, weight_init=SMALL, bias_init=ZERO)
    )
    change = model.conv(inner, "bfp_change", dim, dim, 3, pad=1, weight_init=ZERO, bias_init=ZERO)
    return model.net.Sum([blob, change], "bfp_refined")

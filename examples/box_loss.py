"""A box loss: log-cosh, quadratic for small differences and linear for large ones."""

import numpy as np

from detectron_ext.modeling.box_losses import BOX_LOSSES, numpy_box_loss


def log_cosh(difference, beta):
    """beta * ln(cosh(difference / beta)), written so that large differences do not overflow."""
    x = np.abs(difference) / beta
    return beta * (x + np.log1p(np.exp(-2 * x)) - np.log(2))


def log_cosh_slope(difference, beta):
    """The derivative of log_cosh with respect to the difference, between -1 and 1."""
    return np.tanh(difference / beta)


BOX_LOSSES.register("log_cosh")(numpy_box_loss(log_cosh, log_cosh_slope))

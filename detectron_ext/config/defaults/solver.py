"""Defaults of the optimizer: learning rate schedule, momentum, weight decay."""

from __future__ import annotations

SOLVER = {
    # Learning rate at the start of the schedule, for the global batch exactly as configured.
    "BASE_LR": 0.001,
    # Shape of the schedule at iteration i of MAX_ITER:
    #   step              BASE_LR * GAMMA ** (i // STEP_SIZE)
    #   steps_with_decay  BASE_LR * GAMMA ** k, where k counts the STEPS passed, the first 0 aside
    #   steps_with_lrs    LRS[k]
    #   cosine_decay      BASE_LR times half a cosine wave, from 1 to 0
    #   exp_decay         BASE_LR * GAMMA ** (i / MAX_ITER)
    "LR_POLICY": "step",
    # Decay factor of the policies above.
    "GAMMA": 0.1,
    # Iterations between decays under the policy step.
    "STEP_SIZE": 30000,
    # Iterations, rising from 0, at which a steps_* policy moves on.
    "STEPS": [],
    # Learning rates of steps_with_lrs, one for each of STEPS.
    "LRS": [],
    # Iterations to train.
    "MAX_ITER": 40000,
    # Momentum of stochastic gradient descent.
    "MOMENTUM": 0.9,
    # Factor of the L2 penalty on weights.
    "WEIGHT_DECAY": 0.0005,
    # The same for the scales and offsets of GroupNorm.
    "WEIGHT_DECAY_GN": 0.0,
    # Iterations over which the learning rate warms up.
    "WARM_UP_ITERS": 500,
    # Share of the learning rate that warming up starts from.
    "WARM_UP_FACTOR": 1.0 / 3.0,
    # Warm-up by rising steadily (linear) or by staying at the factor (constant).
    "WARM_UP_METHOD": "linear",
    # When the learning rate changes, scale the accumulated momentum by the same ratio.
    "SCALE_MOMENTUM": True,
    # Do so only for changes by more than this factor.
    "SCALE_MOMENTUM_THRESHOLD": 1.1,
    # Log only changes of the learning rate by more than this factor.
    "LOG_LR_CHANGE_THRESHOLD": 1.1,
}

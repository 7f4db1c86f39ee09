"""Keys of the optimizer: learning rate schedule, momentum, weight decay."""

from __future__ import annotations

from detectron_ext.config.keys.key import UPSTREAM_ONLY, Key, Section
from detectron_ext.config.rules import (
    above,
    at_least,
    below_one,
    fraction,
    numbers,
    one_of,
    positives,
)

SOLVER = Section(
    "The optimizer: stochastic gradient descent with momentum.",
    affects_weights=True,
    BASE_LR=Key(
        0.001,
        "Learning rate at the start of the schedule, for the minibatches of all devices together. "
        "It is never rescaled to the number of devices.",
        at_least(0),
    ),
    LR_POLICY=Key(
        "step",
        "Shape of the schedule at iteration i. "
        "`step`: BASE_LR * GAMMA ** (i // STEP_SIZE). "
        "`steps_with_decay`: BASE_LR * GAMMA ** k, where k is the number of STEPS reached, not "
        "counting the first one (0). "
        "`steps_with_lrs`: LRS[k]. "
        "`cosine_decay`: BASE_LR times a factor that falls from 1 to 0 along half a cosine wave. "
        "`exp_decay`: BASE_LR * GAMMA ** (i / MAX_ITER).",
        one_of("step", "steps_with_decay", "steps_with_lrs", "cosine_decay", "exp_decay"),
    ),
    GAMMA=Key(0.1, "Decay factor of LR_POLICY.", above(0)),
    STEP_SIZE=Key(30000, "Iterations between decays under the policy `step`.", at_least(1)),
    STEPS=Key(
        [],
        "Iterations at which the learning rate of a `steps_` policy changes. The first one is 0, "
        "and each one is above the one before.",
        numbers(),
    ),
    LRS=Key([], "Learning rates of `steps_with_lrs`, one for each of STEPS.", positives()),
    MAX_ITER=Key(40000, "Iterations to train.", at_least(0)),
    MOMENTUM=Key(0.9, "Momentum of stochastic gradient descent.", below_one()),
    WEIGHT_DECAY=Key(0.0005, "Factor of the L2 penalty on weights.", at_least(0)),
    WEIGHT_DECAY_GN=Key(
        0.0,
        "Factor of the L2 penalty on the scales and offsets of GroupNorm.",
        at_least(0),
    ),
    WARM_UP_ITERS=Key(
        500,
        "Number of iterations of the warm-up, in which the learning rate is lower.",
        at_least(0),
    ),
    WARM_UP_FACTOR=Key(
        1.0 / 3.0, "Share of the learning rate with which the warm-up starts.", fraction()
    ),
    WARM_UP_METHOD=Key(
        "linear",
        "How the share of the learning rate changes in the warm-up: it rises from WARM_UP_FACTOR "
        "to 1 (`linear`), or it stays at WARM_UP_FACTOR (`constant`).",
        one_of("constant", "linear"),
    ),
    SCALE_MOMENTUM=Key(
        True,
        "If the learning rate changes, scale the accumulated momentum by the same ratio.",
    ),
    SCALE_MOMENTUM_THRESHOLD=Key(
        1.1, "Scale the momentum only if the learning rate changes by more than this factor."
    ),
    LOG_LR_CHANGE_THRESHOLD=Key(
        1.1,
        "Log only changes of the learning rate by more than this factor.",
        used_by=UPSTREAM_ONLY,
        affects_weights=False,
    ),
)

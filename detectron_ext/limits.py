"""Limits that several parts share.

The C++ sources repeat those of operators as constants; a test compares both.
"""

from __future__ import annotations

# The largest gamma / alpha of the balanced L1 loss: exp(gamma / alpha) must fit single precision.
# In C++: kMaxBalancedL1Exponent (ops/kernels/balanced_l1.h).
MAX_BALANCED_L1_EXPONENT = 60

# How many levels the balanced pyramid's operators take.
# In C++: the schemas of BalancedPyramidGather and BalancedPyramidScatter.
MIN_PYRAMID_LEVELS, MAX_PYRAMID_LEVELS = 2, 8

# How many bins of negatives the operator NegativeGradientMass takes.
# In C++: kMaxGradientBins (ops/kernels/gradient_mass.h).
MAX_GRADIENT_BINS = 4096

# Sizes of files that are read, in bytes. Reading takes several times as much memory.
MAX_PICKLE_BYTES = 4 << 30  # weights, checkpoints, proposals, detections
MAX_JSON_BYTES = 2 << 30  # annotations, results, logs
MAX_IMAGE_BYTES = 1 << 30

# Pixels on a side of an annotated image; that of OpenCV's decoders is 2 ** 20, too.
MAX_IMAGE_SIDE = 1 << 20

# The largest score and coordinate of a detection. Sums of them must not overflow.
MAX_DETECTION_NUMBER = 1e30

# Of a YAML document; a value counts as often as aliases name it.
MAX_YAML_CHARACTERS, MAX_YAML_VALUES = 4 << 20, 200_000

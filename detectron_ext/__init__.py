"""Libra R-CNN for Caffe2 and Detectron: balanced sampling, balanced pyramid, balanced L1."""

import os

from detectron_ext.environment import MAX_IMAGE_PIXELS

# OpenCV reads the variable when it is imported.
os.environ.setdefault(MAX_IMAGE_PIXELS.name, str(1 << 28))

__version__ = "0.1.0"

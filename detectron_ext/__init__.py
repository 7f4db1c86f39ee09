"""Libra R-CNN for Caffe2 and Detectron: balanced sampling, balanced pyramid, balanced L1."""

__version__ = "0.1.0"

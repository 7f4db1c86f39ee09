"""Builds Caffe2 graphs of detectors. It never runs one."""

from detectron_ext.modeling.builder import build_model

__all__ = ["build_model"]

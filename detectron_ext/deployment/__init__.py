"""Trained models as Caffe2 nets that run without this package."""

"""A training step of RetinaNet on EfficientNet-Lite0 in PyTorch, to compare this project's with.

It runs in any Python with PyTorch, without Caffe2 and without this package's other parts.
"""

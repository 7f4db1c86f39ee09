"""Checks and times the CUDA kernels of ops/kernels on any GPU, without Caffe2.

The kernels are compiled into a library with a C interface (`build`, `kernels`) and called on
PyTorch's tensors. Each is compared with the same formula in PyTorch
(`detectron_ext.benchmarks.pytorch_formulas`): in float64 for its error, in float32, eager and
compiled, for its speed. Nothing here imports Caffe2, so that a newer PyTorch than the last one with
Caffe2 can be used.
"""

"""Checks and times the CUDA kernels of ops/kernels on any GPU, without Caffe2.

The kernels are compiled into a library with a C interface (`build`, `kernels`), which is called
with PyTorch's tensors. Each kernel is compared with the same formula in PyTorch
(`detectron_ext.benchmarks.pytorch_formulas`): with float64 numbers for its error, and with float32
numbers, eager and compiled, for its speed. Nothing here imports Caffe2, so any PyTorch with CUDA
can be used, also one that is newer than Caffe2.
"""

"""Operators timed against eager PyTorch."""

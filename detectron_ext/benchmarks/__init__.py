"""Times operators against eager PyTorch, and training steps."""

"""Checkpoints as mmdetection writes them."""

from __future__ import annotations

import mmdet_random
import numpy as np
import torch


def write_checkpoint(path, arch, meta=None, **options):
    """Write the architecture's random weights as mmdetection would."""
    tensors = {
        name: torch.from_numpy(np.asarray(value))
        for name, value in mmdet_random.random_state(arch).items()
    }
    torch.save({"meta": meta or {}, "state_dict": tensors}, str(path), **options)
    return str(path)

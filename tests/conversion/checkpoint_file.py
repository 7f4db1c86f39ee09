"""Checkpoints as mmdetection writes them."""

from __future__ import annotations

import mmdet_random
import numpy as np
import torch


def write_checkpoint(path, arch, meta=None, shapes=None) -> str:
    """Write the architecture's random weights as mmdetection would; ``shapes`` (name to shape)
    replaces some by zeros."""
    state = mmdet_random.random_state(arch)
    state.update({name: np.zeros(shape, np.float32) for name, shape in (shapes or {}).items()})
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}
    torch.save({"meta": meta or {}, "state_dict": tensors}, str(path))
    return str(path)

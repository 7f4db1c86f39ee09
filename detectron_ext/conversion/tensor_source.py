"""The tensors of a checkpoint. A converter takes each of them once.

A checkpoint of another network is therefore noticed: a tensor is missing, has another shape, or is
left over.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from detectron_ext.errors import WeightsError


class TensorSource:
    """Tensors by name; each can be taken once.

    Args:
        tensors: name to array.
        path: file of the tensors, for messages.
        advice: what the user can do, for the message about a tensor that is missing or left over.
        kind: what the file is, for messages.

    Attributes:
        num_taken: how many tensors were taken.
    """

    def __init__(self, tensors: dict, path: str, advice: str, kind: str = "checkpoint"):
        strip = all(name.startswith("module.") for name in tensors)
        self._tensors = {name[7:] if strip else name: value for name, value in tensors.items()}
        self._path, self._advice, self._kind = path, advice, kind
        self.num_taken = 0

    def has(self, name: str) -> bool:
        """Return whether a tensor exists and has not been taken."""
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor that exists and has not been taken."""
        return tuple(self._tensors[name].shape)

    def take(self, name: str, *shape: int | None) -> np.ndarray:
        """Take a tensor.

        Args:
            name: its name.
            shape: the expected shape; None stands for any size. Without it any shape is allowed.

        Raises:
            WeightsError: the tensor is missing or has another shape.
        """
        if name not in self._tensors:
            self.refuse(f"it has no {name}: {self._advice}")
        value = self._tensors.pop(name)
        fits = len(value.shape) == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, value.shape)
        )
        if shape and not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            self.refuse(f"{name} has shape {value.shape}, not ({wanted})")
        self.num_taken += 1
        return value.astype(np.float64)

    def finish(self, unused: tuple[str, ...] = ()) -> list[str]:
        """Check that no tensors are left over, except BatchNorm's counters of batches.

        Args:
            unused: prefixes of the names of tensors that may be left over.

        Returns:
            The names of the tensors that are left over and allowed by ``unused``.

        Raises:
            WeightsError: other tensors are left over. The message names them.
        """
        left = [name for name in self._tensors if not name.endswith("num_batches_tracked")]
        rest = [name for name in left if not name.startswith(unused)]
        if rest:
            shown = ", ".join(rest[:4]) + (f" and {len(rest) - 4} more" if len(rest) > 4 else "")
            self.refuse(f"it has {shown}, which this network does not have: {self._advice}")
        return left

    def take_conv_bn(self, conv: str, norm: str, epsilon: float, *shape: int | None) -> tuple:
        """Take a convolution without bias and the BatchNorm after it, as a frozen scale and bias.

        Args:
            conv, norm: names of the two layers, without ".weight".
            epsilon: the number that BatchNorm adds to the variance.
            shape: the expected shape of the weights; None stands for any size.

        Returns:
            Weights (out, in, rows, columns), scale (out,) and bias (out,), with
            scale = weight / sqrt(variance + epsilon) and bias = bias - mean * scale.

        Raises:
            WeightsError: a tensor is missing or has another shape.
        """
        weight = self.take(f"{conv}.weight", *(shape or [None] * 4))
        kinds = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (self.take(f"{norm}.{kind}", len(weight)) for kind in kinds)
        scale = gamma / np.sqrt(variance + epsilon)
        return weight, scale, beta - mean * scale

    def refuse(self, reason: str) -> NoReturn:
        """Raise WeightsError with the file and the reason."""
        raise WeightsError(f"{self._kind} {self._path}: {reason}")

"""The C interface of ops/kernels/cuda_interface.cu, called with tensors or arrays."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Callable

_INTEGER, _LONG, _FLOAT = ctypes.c_int, ctypes.c_int64, ctypes.c_float
_POINTER = ctypes.c_void_p

# The types of the arguments, a letter for each:
#   i  int            l  int64            f  float
#   p  device memory; given as a tensor or an array
#   h  int64s in host memory; given as a sequence
#   a  pointers to device memory, in host memory; given as a sequence of tensors or arrays
# A stream follows these arguments.
_FORMULA = "fffi"
_SELECTION = "hplpppp"
_FOCAL = "lllppppff"
_PYRAMID = "liih"
_SIGNATURES = {
    "balanced_l1_loss": _FORMULA + "lppppfpp",
    "balanced_l1_gradient": _FORMULA + "lppppfpp",
    "find_outside": "hlpp",
    "select_balanced_l1_loss": _FORMULA + _SELECTION + "fpp",
    "select_balanced_l1_gradient": _FORMULA + _SELECTION + "fppp",
    "weighted_sigmoid_focal_loss": _FOCAL + "fpp",
    "weighted_sigmoid_focal_gradient": _FOCAL + "fpp",
    "quality_focal_loss": "lllppppffffpp",
    "quality_focal_gradient": "lllppppffffpp",
    "negative_gradient_mass": "lllpplffpp",
    "select_box_iou": "hplppfp",
    "select_focal_loss": "hppllpffpp",
    "scale_anchors": "hplppp",
    "pyramid_gather": _PYRAMID + "ap",
    "pyramid_gather_gradient": _PYRAMID + "apap",
    "pyramid_scatter": _PYRAMID + "paa",
    "pyramid_scatter_gradient": _PYRAMID + "papp",
    "attention": "lllfipppppp",
    "attention_gradient": "lllfipppppppppp",
}
# Functions that return how many elements of working memory others need, and their arguments.
_SIZES = {
    "loss_partial_sums": "",
    "select_scratch": "l",
    "gradient_mass_scratch": "l",
    "gather_places": _PYRAMID,
    "scatter_places": _PYRAMID + "a",
    "attention_scratch": "lll",
}
_TYPES = {
    "i": _INTEGER,
    "l": _LONG,
    "f": _FLOAT,
    "p": _POINTER,
    "h": ctypes.POINTER(_LONG),
    "a": ctypes.POINTER(_POINTER),
}


class KernelError(RuntimeError):
    """A kernel could not be launched; the message is the library's."""


class Kernels:
    """The kernels of one library.

    Args:
        path: the library.
        stream: returns the CUDA stream to launch on, as an integer; the default stream if None.
    """

    def __init__(self, path: Path, stream: Callable[[], int] | None = None):
        self._library = ctypes.CDLL(str(path))
        self._library.detectron_ext_last_error.restype = ctypes.c_char_p
        self._stream = stream

    def __call__(self, name: str, *arguments: Any) -> None:
        """Launch a kernel.

        Args:
            name: a key of _SIGNATURES.
            arguments: the kernel's arguments, without the stream.

        Raises:
            KernelError: the kernel could not be launched.
        """
        function, converted = self._prepare(name, _SIGNATURES[name] + "p", arguments)
        stream = self._stream() if self._stream else None
        if function(*converted, stream):
            raise KernelError(self._library.detectron_ext_last_error().decode())

    def size(self, name: str, *arguments: Any) -> int:
        """Return how many elements a working memory must hold; `name` is a key of _SIZES."""
        function, converted = self._prepare(name, _SIZES[name], arguments)
        function.restype = _LONG
        return function(*converted)

    def _prepare(self, name: str, letters: str, arguments: tuple) -> tuple[Any, list]:
        function = getattr(self._library, f"detectron_ext_{name}")
        function.argtypes = [_TYPES[letter] for letter in letters]
        return function, [_convert(letter, value) for letter, value in zip(letters, arguments)]


def _convert(letter: str, value: Any) -> Any:
    if letter == "p":
        return _pointer(value)
    if letter == "h":
        return (_LONG * len(value))(*value)
    if letter == "a":
        return (_POINTER * len(value))(*map(_pointer, value))
    return value


def _pointer(memory: Any) -> int | None:
    """Return the address of a contiguous tensor or array; None for None."""
    if memory is None:
        return None
    if hasattr(memory, "data_ptr"):
        assert memory.is_contiguous()
        return memory.data_ptr()
    assert memory.flags.c_contiguous
    return memory.ctypes.data

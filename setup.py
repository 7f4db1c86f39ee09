"""Installs the package, and builds its native operators where the machine can.

    pip install --no-build-isolation -e .

The native library is compiled against the Caffe2 of the environment, so installing must see that
environment: --no-build-isolation where pip would otherwise make a fresh one. Without a C++
compiler the package installs all the same and uses its Python operators.
"""

import os
import re
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from detectron_ext.native_build import build_or_warn  # noqa: E402


class BuildWithOperators(build_py):
    """Build the native library before the package's files are collected."""

    def run(self):
        """Run the build; a missing compiler is a warning."""
        build_or_warn(os.environ.get("SANITIZE") or None)
        super().run()


class DevelopWithOperators(develop):
    """Build the native library in place for an editable installation."""

    def run(self):
        """Run the build; a missing compiler is a warning."""
        if not self.uninstall:
            build_or_warn(os.environ.get("SANITIZE") or None)
        super().run()


def version() -> str:
    """Return the package's version without importing what it depends on."""
    text = (ROOT / "detectron_ext/__init__.py").read_text()
    return re.search(r'__version__ = "([^"]+)"', text).group(1)


setup(
    name="detectron-ext",
    version=version(),
    description="Libra R-CNN for Caffe2 and Detectron",
    license="Apache-2.0",
    packages=find_packages(include=["detectron_ext", "detectron_ext.*"]),
    package_data={
        "detectron_ext.ops": ["lib/*/*.so"],
        "detectron_ext.evaluation": ["templates/*.j2"],
    },
    python_requires=">=3.7,<3.10",
    install_requires=[
        "torch>=1.4,<1.11",  # later ones carry no Caffe2
        "numpy<1.24",
        "protobuf<3.21",
        "future",
        "six",
        "PyYAML",
        "pycocotools",
        "opencv-python-headless",
        "matplotlib",
        "Jinja2",
        "tqdm",
        "networkx<3",
    ],
    cmdclass={"build_py": BuildWithOperators, "develop": DevelopWithOperators},
    zip_safe=False,
)

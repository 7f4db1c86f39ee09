"""Builds the native operators into the package. All other settings stand in pyproject.toml.

    pip install --no-build-isolation -e .

installs a checkout and compiles its operators against the Caffe2 of the environment. Without
--no-build-isolation pip compiles them in a temporary environment with a torch of its own. Where
there is no C++ compiler, the package is installed all the same and uses its Python operators.

A wheel contains, besides the package, the libraries of the targets that the environment variable
DETECTRON_EXT_BUILD_TARGETS lists, and copies of the tools and configurations.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py
from wheel.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from detectron_ext.native_build import build_or_warn  # noqa: E402
from detectron_ext.native_build.cuda import architectures_file  # noqa: E402
from detectron_ext.native_build.targets import flags_file  # noqa: E402
from detectron_ext.shipped_files import CHECKOUT_TOOLS, FOLDER_IN_WHEEL  # noqa: E402


class BuildWithOperators(build_py):
    """Builds the native libraries before the package's files are collected."""

    def run(self):
        """Build. A missing compiler is a warning."""
        libraries = build_or_warn(os.environ.get("SANITIZE") or None)
        if self.editable_mode:
            super().run()  # the checkout itself is the package
            return
        package = Path(self.build_lib) / "detectron_ext"
        shutil.rmtree(str(package), ignore_errors=True)  # files of an earlier version
        super().run()
        for library in libraries:
            for path in (library, flags_file(library), architectures_file(library)):
                self._copy(path, package / path.relative_to(ROOT / "detectron_ext"))
        for path in sorted((ROOT / "configs").rglob("*.yaml")):
            self._copy(path, package / FOLDER_IN_WHEEL / path.relative_to(ROOT))
        for path in sorted((ROOT / "tools").glob("*.py")):
            if path.stem not in CHECKOUT_TOOLS:
                self._copy(path, package / FOLDER_IN_WHEEL / path.relative_to(ROOT))

    def _copy(self, source, target):
        self.mkpath(str(target.parent))
        self.copy_file(str(source), str(target))


class DistributionWithMachineCode(Distribution):
    """Makes setuptools treat the package as one for a certain platform."""

    def has_ext_modules(self):
        """Return that there is machine code, though it is no extension module of Python."""
        return True


class PlatformWheel(bdist_wheel):
    """Tags the wheel for this platform and any Python: the libraries do not link to Python."""

    def get_tag(self):
        """Return the tags of Python, its binary interface and the platform."""
        return ("py3", "none", super().get_tag()[2])


setup(
    cmdclass={"build_py": BuildWithOperators, "bdist_wheel": PlatformWheel},
    distclass=DistributionWithMachineCode,
)

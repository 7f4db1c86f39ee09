"""A folder that is not a known checkout ends in a one-line error; needs no real checkout."""

from __future__ import annotations

import subprocess
import sys

import pytest
from squares import REPOSITORY

_FAKE = {
    "tools/train_net.py": "print('ran')",
    "detectron/__init__.py": "",
    "detectron/modeling/__init__.py": "",
    "detectron/modeling/model_builder.py": "",
    "detectron/utils/__init__.py": "",
    "detectron/utils/env.py": "yaml_load = yaml_dump = None",
    "detectron/utils/io.py": "load_object = None",
    "detectron/core/__init__.py": "",
    "detectron/core/config.py": "",
}


def _run(*arguments):
    """Run Python in the repository; return the status and the last line of standard error."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr and "ran" not in done.stdout
    return done.returncode, done.stderr.splitlines()[-1]


def _write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    status, line = _run("tools/train_net.py", "--upstream", tmp_path, "--cfg", "x.yaml")
    assert status == 2
    assert line == (
        f"error: --upstream {tmp_path} is no checkout of Detectron: it has no "
        "detectron/modeling/model_builder.py"
    )


def test_a_folder_that_is_not_there(tmp_path):
    status, line = _run("tools/train_net.py", "--upstream", tmp_path / "none", "--cfg", "x.yaml")
    assert status == 2
    assert line == f"error: --upstream {tmp_path}/none is no folder: name a checkout of Detectron"


def test_a_script_that_is_not_there(tmp_path):
    status, line = _run("-m", "detectron_ext.upstream", tmp_path / "tools/train_net.py")
    assert status == 2
    assert line == (
        f"error: {tmp_path}/tools/train_net.py is no file: give a script in the tools folder of a "
        "checkout"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"detectron/core/config.py": "cfg = {}"}, "detectron.datasets.dataset_catalog cannot"),
        ({"detectron/core/config.py": "import nowhere"}, "needs the Python package nowhere"),
        ({"detectron/core/config.py": "import cPickle"}, "is for Python 2"),
        ({"detectron/core/config.py": "print 'x'"}, "does not run under this Python"),
        (
            {"detectron/core/config.py": "import detectron.utils.cython_bbox"},
            "`python setup.py build_ext --inplace`",
        ),
        ({"detectron/core/config.py": "import detectron.lib"}, "is not one the adapter knows"),
    ],
)
def test_an_unknown_checkout_is_refused(tmp_path, change, reason):
    _write(tmp_path, {**_FAKE, **change})
    status, line = _run("-m", "detectron_ext.upstream", tmp_path / "tools/train_net.py")
    assert status == 2
    assert line.startswith("error: ") and reason in line


def test_a_missing_script_argument_ends_with_status_2(tmp_path):
    assert _run("-m", "detectron_ext.upstream")[0] == 2

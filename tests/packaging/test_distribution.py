"""The source distribution and the wheel: what they contain, and that the wheel works alone."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from squares import make_squares

from detectron_ext.native_build.library import NAME
from detectron_ext.native_build.targets import LEVELS, NATIVE

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARIES = "detectron_ext/ops/lib/"

OPERATOR = """
import numpy as np
import detectron_ext
from caffe2.python import core, workspace
from detectron_ext import ops
from detectron_ext.ops import library

assert ops.native_library_loaded()
blobs = [np.linspace(a, b, 12, dtype=np.float32).reshape(3, 4)
         for a, b in [(-2, 2), (1, -1), (1, 1), (1, 1)]]
for name, blob in zip("abcd", blobs):
    workspace.FeedBlob(name, blob)
workspace.RunOperatorOnce(core.CreateOperator("BalancedL1Loss", list("abcd"), "loss"))
print(workspace.FetchBlob("loss"))
print(library.NATIVE_LIBRARY)
"""

CONFIGURATION = """
from detectron_ext import config
from detectron_ext.shipped_files import CONFIGS

print(config.load(str(CONFIGS / "libra_retinanet_R-50-FPN.yaml")).LIBRA.BFP.ON)
"""


def files_below(folder: str) -> set[str]:
    """Return the files of the checkout below a folder, without what running Python leaves."""
    paths = (REPOSITORY / folder).rglob("*")
    return {
        path.relative_to(REPOSITORY).as_posix()
        for path in paths
        if path.is_file() and path.suffix not in (".pyc", ".so", ".o")
    }


def targets_in(wheel: Path) -> list[str]:
    """Return the targets whose library a wheel contains."""
    names = [n for n in zipfile.ZipFile(str(wheel)).namelist() if n.startswith(LIBRARIES)]
    folders = [Path(name).parent.name for name in names if name.endswith(NAME)]
    return [folder if folder in LEVELS else NATIVE for folder in folders]


def test_the_source_distribution_has_everything_to_build_and_test_it(distribution):
    with tarfile.open(str(distribution.source)) as tar:
        names = {member.name.partition("/")[2] for member in tar if member.isfile()}
    for folder in ("ops", "configs", "tools", "tests", "docs"):
        assert files_below(folder) <= names, folder
    single = ["LICENSE", "Makefile", "README.md", "pyproject.toml", "setup.py", "requirements.txt"]
    assert {*single, "CONTRIBUTING.md", "CHANGELOG.md", ".ci/run"} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


def test_the_wheel_has_only_the_package_libraries_tools_and_configurations(distribution):
    assert distribution.wheel.name.endswith("-py3-none-linux_x86_64.whl")
    names = set(zipfile.ZipFile(str(distribution.wheel)).namelist())
    package = {n for n in names if ".dist-info/" not in n}
    assert all(name.startswith("detectron_ext/") for name in package)
    shipped = {name[len("detectron_ext/shipped/") :] for name in package if "/shipped/" in name}
    assert files_below("configs") <= shipped
    assert "tools/train_net.py" in shipped and "tools/build_ops.py" not in shipped
    assert "detectron_ext/evaluation/templates/report.html.j2" in package
    libraries = [name for name in package if name.endswith(".so")]
    assert libraries and all(name.startswith(LIBRARIES) for name in libraries)
    for suffix in (".flags", ".cuda"):
        assert {str(Path(name).with_suffix(suffix)) for name in libraries} <= package


def test_the_wheels_library_contains_no_path_of_the_build_folder(distribution):
    with zipfile.ZipFile(str(distribution.wheel)) as wheel:
        for name in wheel.namelist():
            if name.endswith(".so"):
                content = wheel.read(name)
                assert b"../../../../ops/" in content
                assert os.fsencode(str(REPOSITORY / "ops")) not in content


def test_every_library_that_this_processor_runs_computes_an_operator(distribution, environment):
    losses = {}
    for target in targets_in(distribution.wheel):
        result = environment.run("python", "-c", OPERATOR, DETECTRON_EXT_TARGET=target)
        if "needs a processor with" in result.stderr:
            continue
        assert result.returncode == 0, result.stderr
        loss, path = result.stdout.split()
        assert path.startswith(str(environment.folder))
        losses[target] = float(loss)
    assert losses
    assert max(losses.values()) - min(losses.values()) < 1e-6
    assert losses[next(iter(losses))] == pytest.approx(expected_loss(), rel=1e-6)


def expected_loss() -> float:
    """Return the loss that OPERATOR prints, by the paper's formula at beta 1."""
    predicted, target = (np.linspace(a, b, 12) for a, b in [(-2, 2), (1, -1)])
    x, alpha, gamma = np.abs(predicted - target), 0.5, 1.5
    b = np.exp(gamma / alpha) - 1
    inner = alpha / b * (b * x + 1) * np.log(b * x + 1) - alpha * x
    return float(np.where(x < 1, inner, gamma * x + gamma / b - alpha).sum() / 3)


def test_the_best_library_is_chosen_by_default(distribution, environment):
    result = environment.run("python", "-c", OPERATOR)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[1].startswith(str(environment.folder))


def test_a_shipped_configuration_loads(environment):
    result = environment.run("python", "-c", CONFIGURATION)
    assert (result.returncode, result.stdout) == (0, "True\n"), result.stderr


def test_the_configuration_of_a_converted_model_is_in_the_wheel(environment):
    code = (
        "from detectron_ext.conversion.mmdet import ARCHITECTURES, config_path; import os; "
        "print([os.path.exists(config_path(name)) for name in ARCHITECTURES])"
    )
    result = environment.run("python", "-c", code)
    assert (result.returncode, result.stdout) == (0, "[True, True, True, True]\n"), result.stderr


def test_the_command_lists_tools_and_names_an_unknown_one(environment):
    listed = environment.run("detectron-ext", "--help").stdout
    assert "  train_net  " in listed and "Train a model, then test it." in listed
    assert "build_ops" not in listed
    help_text = environment.run("detectron-ext", "train_net", "--help").stdout
    assert "example:\n  detectron-ext train_net --cfg configs/" in help_text
    as_module = environment.run("python", "-m", "detectron_ext", "--help")
    assert as_module.stdout == listed
    unknown = environment.run("detectron-ext", "train")
    assert unknown.returncode == 2
    assert unknown.stderr == "error: no tool is called train; did you mean train_net?\n"


def test_a_copied_configuration_trains_with_only_the_wheel(environment):
    copied = environment.run("detectron-ext", "copy_configs", ".")
    assert copied.returncode == 0, copied.stderr
    again = environment.run("detectron-ext", "copy_configs", ".")
    assert again.returncode == 2 and again.stderr.count("\n") == 1
    data = make_squares(environment.work / "squares", 4)
    (environment.work / "my.yaml").write_text(f"""
_BASE_: configs/retinanet_R-36-tiny.yaml
DATASETS_EXTRA: {{squares: {data}}}
MODEL: {{NUM_CLASSES: 3}}
FPN: {{DIM: 64, COARSEST_STRIDE: 128}}
TRAIN: {{DATASETS: [squares], SCALES: [128], MAX_SIZE: 128, IMS_PER_BATCH: 2}}
TEST: {{DATASETS: [squares], SCALE: 128, MAX_SIZE: 128}}
SOLVER: {{MAX_ITER: 2}}
LIBRA: {{BFP: {{ON: True}}, BALANCED_L1: {{ON: True}}}}
OUTPUT_DIR: output
""")
    trained = environment.run("detectron-ext", "train_net", "--cfg", "my.yaml")
    assert trained.returncode == 0, trained.stderr
    assert "Python operators" not in trained.stderr
    assert list((environment.work / "output").rglob("results.json"))

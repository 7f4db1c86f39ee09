"""A model that does not fit the memory is refused in one line, before it takes any."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from caffe2.python import workspace
from squares import REPOSITORY, write_tiny_config

from detectron_ext import memory_limit
from detectron_ext.commands.train_and_test import train_and_test
from detectron_ext.engine import memory_estimate
from detectron_ext.engine import train as training
from detectron_ext.engine.detector import Detector
from detectron_ext.errors import ConfigError
from detectron_ext.memory_limit import MemoryLimit, _cgroup_limits
from detectron_ext.modeling.blob_sizes import activation_shapes, parameter_shapes


@pytest.fixture
def limited(monkeypatch):
    """Return a function that sets the memory in bytes."""

    def limit(size):
        found = MemoryLimit(int(size), "this machine has")
        monkeypatch.setattr(memory_estimate, "memory_limit", lambda: found)

    return limit


def _check_shapes(config, inputs, least):
    """Compare the shapes that are predicted with those of a step; ``least`` blobs are predicted."""
    model = {}
    build = training.build_model

    def remember(*arguments, **keywords):
        model["built"] = build(*arguments, **keywords)
        return model["built"]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "build_model", remember)
        training.train(config)
    for name in ("rois", *(f"rois_fpn{level}" for level in range(2, 6))):
        if workspace.HasBlob(name):  # how the regions are spread depends on the images
            inputs[name] = workspace.FetchBlob(name).shape
    shapes = parameter_shapes(model["built"])
    predicted = {**shapes, **activation_shapes(model["built"], inputs)}
    for name, shape in predicted.items():
        assert workspace.FetchBlob(name).shape == shape, name
    assert len(predicted) - len(shapes) >= least


@pytest.mark.parametrize("size, images", [(96, 2), (128, 1)])
def test_predicted_shapes_are_those_of_a_step(tiny_config, size, images):
    config = tiny_config(
        "SOLVER.MAX_ITER", "1", "LIBRA.BFP.ON", "True", "TRAIN.SCALES", f"[{size}]",
        "TRAIN.MAX_SIZE", "1000", "TRAIN.IMS_PER_BATCH", str(images), "FPN.COARSEST_STRIDE", "32",
        "LIBRA.TRAIN.FREE_BLOBS", "False",
    )  # fmt: skip
    _check_shapes(config, {"data": (images, 3, size, size)}, 110)


def test_predicted_shapes_of_a_box_head_are_those_of_a_step(tiny_rcnn_config):
    config = tiny_rcnn_config(
        "SOLVER.MAX_ITER", "1", "TRAIN.IMS_PER_BATCH", "1", "LIBRA.TRAIN.FREE_BLOBS", "False"
    )
    _check_shapes(config, {"data": (1, 3, 128, 128)}, 70)


@pytest.mark.parametrize(
    "overrides, part, key",
    [
        (["FPN.DIM", "4096"], " is the largest,", "FPN.DIM (4096)"),
        (
            ["TRAIN.IMS_PER_BATCH", "1024"],
            "the maps of a minibatch of 1024 images of 128x128 pixels",
            "TRAIN.IMS_PER_BATCH (1024) or TRAIN.SCALES ((128,))",
        ),
        (
            ["TRAIN.IMS_PER_BATCH", "1", "TRAIN.SCALES", "[4000]", "TRAIN.MAX_SIZE", "4000"],
            "the maps of a minibatch of 1 images of 4000x4000 pixels",
            "TRAIN.SCALES ((4000,))",
        ),
        (
            ["DATA_LOADER.MINIBATCH_QUEUE_SIZE", "4096", "SOLVER.MAX_ITER", "4000"],
            "the loader's queue of 4000 minibatches",
            "DATA_LOADER.MINIBATCH_QUEUE_SIZE (4096)",
        ),
    ],
)
def test_a_training_that_does_not_fit_names_what_is_largest(
    tiny_config, limited, overrides, part, key
):
    limited(2e9)
    with pytest.raises(ConfigError, match="^training needs at least .* this machine has 2.0") as e:
        training.train(tiny_config(*overrides))
    assert part in str(e.value) and str(e.value).endswith(f": lower {key}")
    assert "\n" not in str(e.value)
    assert not os.path.exists(tiny_config().OUTPUT_DIR)


def test_a_test_that_does_not_fit_is_refused_before_the_training(tiny_config, limited):
    limited(2e9)
    config = tiny_config("TEST.SCALE", "4000", "TEST.MAX_SIZE", "4000")
    with pytest.raises(ConfigError) as caught:
        train_and_test(config)
    message = str(caught.value)
    assert message.startswith("testing an image of 128x128 pixels needs at least ")
    assert message.endswith(": lower TEST.SCALE (4000) or TEST.MAX_SIZE (4000)")
    assert not os.path.exists(config.OUTPUT_DIR)


def test_a_detector_refuses_an_image_that_does_not_fit(tiny_config, limited, tmp_path):
    limited(1e9)  # enough for the training, which is not refused
    final = training.train(tiny_config("SOLVER.MAX_ITER", "1"))
    detector = Detector(tiny_config("TEST.SCALE", "8000", "TEST.MAX_SIZE", "2000"), final)
    assert detector(np.zeros((10, 200, 3), np.uint8)).shape[1] == 6
    with pytest.raises(ConfigError, match="testing an image of 80x40 pixels needs"):
        detector(np.zeros((40, 80, 3), np.uint8))
    limited(1e6)
    with pytest.raises(ConfigError, match="^the model needs at least .*: lower FPN.DIM"):
        Detector(tiny_config(), final)


def test_the_memory_of_containers_is_found(tmp_path, monkeypatch):
    """Of both versions of cgroups, for a group and for those that contain it; "max" is no limit."""
    for folder, name, text in [
        ("one", "memory.limit_in_bytes", "900"),
        ("one/a/b", "memory.limit_in_bytes", "500"),
        ("two/c", "memory.max", "700"),
        ("two/c/d", "memory.max", "max"),
    ]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_text(text + "\n")
    monkeypatch.setattr(memory_limit, "_VERSION_1", (tmp_path / "one", "memory.limit_in_bytes"))
    monkeypatch.setattr(memory_limit, "_VERSION_2", (tmp_path / "two", "memory.max"))
    membership = tmp_path / "cgroup"
    membership.write_text("4:cpu:/a\n3:memory:/a/b\n0::/c/d\n")
    assert list(_cgroup_limits(str(membership))) == [900, 500, 700]
    assert list(_cgroup_limits(str(tmp_path / "none"))) == []
    monkeypatch.setattr(memory_limit, "_cgroup_limits", lambda: iter([700]))
    assert memory_limit.memory_limit() == MemoryLimit(700, "this container may use")


def _limited_tool(megabytes, *arguments):
    """Run a tool with a limited address space, as ``ulimit -v`` sets it."""
    command = f'ulimit -v {megabytes * 1000}; exec "$@"'
    return subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=str(REPOSITORY), env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_limit_of_the_shell_is_kept(tmp_path):
    cfg = write_tiny_config(tmp_path)
    done = _limited_tool(
        4000, "tools/train_net.py", "--cfg", cfg, "TRAIN.SCALES", "[1200]", "TRAIN.MAX_SIZE", 1200
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and "'ulimit -v' leaves" in last, done.stderr


@pytest.mark.parametrize("library", ["opencv", "caffe2"])
def test_an_allocation_that_a_library_is_refused_ends_in_one_line(library, tmp_path):
    code = {
        "opencv": "import cv2; cv2.resize(numpy.zeros((9, 9, 3)), None, fx=9999, fy=9999)",
        "caffe2": "from caffe2.python import core, workspace; workspace.RunOperatorOnce("
        "core.CreateOperator('ConstantFill', [], 'x', shape=[1 << 40]))",
    }[library]
    script = tmp_path / "tool.py"
    script.write_text(
        "import numpy\nfrom detectron_ext import command_line\n"
        f"def main():\n    {code}\ncommand_line.run(main)\n"
    )
    done = _limited_tool(6000, script)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: out of memory: the system gives no more")


def test_other_errors_of_libraries_are_not_taken_for_it():
    with pytest.raises(cv2.error) as caught:
        cv2.resize(np.zeros((0, 0)), (1, 1))
    assert not memory_limit.is_out_of_memory(caught.value)
    assert not memory_limit.is_out_of_memory(RuntimeError("other"))

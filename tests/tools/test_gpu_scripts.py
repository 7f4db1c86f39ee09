"""The shell scripts around GPUs, run with programs that stand in for pip, Python and nvidia-smi."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["sh", str(REPOSITORY / "tools" / script), *arguments],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )


# `python -m pip ...` that writes its arguments down; `pip show torch` names a version.
PIP = 'echo "$@" >> "$PIP_LOG"\n[ "$3" != show ] || echo "Version: $INSTALLED"\n'


@pytest.fixture
def make_env(tmp_path):
    """Return a function: TORCH, installed version -> the ended process and pip's arguments."""
    write_program(tmp_path / "env" / "bin" / "python", PIP)
    log = tmp_path / "pip.log"

    def call(torch: str, installed: str = "1.10.2"):
        ended = run(
            "make_env.sh",
            str(tmp_path / "env"),
            TORCH=torch,
            PIP_LOG=str(log),
            INSTALLED=installed,
        )
        return ended, log.read_text().splitlines()

    return call


def test_without_torch_the_requirements_alone_are_installed(make_env):
    ended, calls = make_env("")
    assert ended.returncode == 0
    assert [call.split()[-1] for call in calls] == [
        "requirements.txt", "requirements-no-deps.txt", "."
    ]  # fmt: skip


def test_a_build_of_torch_is_installed_before_the_requirements(make_env):
    ended, calls = make_env("1.10.2+cu113", "1.10.2+cu113")
    assert ended.returncode == 0
    assert calls[0].endswith("install --quiet torch==1.10.2+cu113")
    assert "requirements.txt" in calls[1]


def test_a_wheel_is_installed_as_it_is(make_env):
    wheel = "/wheels/torch-1.10.2+cu111-cp39-cp39-linux_x86_64.whl"
    ended, calls = make_env(wheel, "1.10.2+cu111")
    assert ended.returncode == 0 and calls[0].endswith(f"install --quiet {wheel}")


@pytest.mark.parametrize("torch", ["1.9.1+cu111", "/wheels/torch-1.9.1-cp39-cp39-linux_x86_64.whl"])
def test_a_torch_that_the_requirements_replace_is_an_error(make_env, torch):
    ended, _ = make_env(torch)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"error: TORCH is {torch}, and requirements.txt needs 1.10.2: choose another build of that "
        "version\n"
    )


@pytest.fixture
def check_gpu(tmp_path):
    """Return a function: body of the Python -> the ended process and the folder."""
    write_program(tmp_path / "bin" / "nvidia-smi", "echo a GPU\n")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    def call(python: str):
        program = write_program(tmp_path / "python", python)
        folder = tmp_path / "check"
        ended = run("check_gpu.sh", str(folder), PYTHON=str(program), PATH=path)
        return ended, folder

    return call


def test_all_steps_are_packed(check_gpu):
    ended, folder = check_gpu('echo "3 passed in 1s: $@"\n')
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with tarfile.open(f"{folder}.tar.gz") as packed:
        names = {Path(name).stem for name in packed.getnames() if name.endswith(".log")}
    assert names == {"about", "build", "kernels", "operators", "training"}
    assert "a GPU" in (folder / "about.log").read_text()
    assert "tests/gpu/test_training_on_gpu.py" in (folder / "training.log").read_text()


@pytest.mark.parametrize("summary", ["3 passed, 1 skipped", "5 skipped", "3 passed, 1 failed"])
def test_tests_that_did_not_run_are_a_failure(check_gpu, summary):
    ended, folder = check_gpu(f'echo "{summary} in 1s"\n')
    assert ended.returncode == 1
    assert ended.stdout.endswith("failed: operators training\n")
    assert Path(f"{folder}.tar.gz").exists()


def test_a_failed_step_does_not_stop_the_others(check_gpu):
    ended, _ = check_gpu('case "$*" in *build_ops*) exit 3;; esac\necho "3 passed in 1s"\n')
    assert ended.returncode == 1 and "training: passed" in ended.stdout
    assert ended.stdout.endswith("failed: build\n")


def test_no_gpu_is_one_line(tmp_path):
    if Path("/usr/bin/nvidia-smi").exists():
        pytest.skip("this machine has nvidia-smi")
    ended = run("check_gpu.sh", str(tmp_path / "check"), PATH="/usr/bin:/bin")
    assert ended.returncode == 2 and not (tmp_path / "check").exists()
    assert ended.stderr == "error: no nvidia-smi: this check needs a machine with an NVIDIA GPU\n"


@pytest.mark.parametrize(
    "words, python, problem",
    [
        (["a", "b"], "", "one folder at most: tools/check_gpu.sh [FOLDER]"),
        (["a"], "exit 1\n", "python has no detectron_ext: run make env"),
        (["a"], 'case "$2" in *torch) exit 1;; esac\n', "set KERNEL_PYTHON to a Python with a"),
    ],
)
def test_unusable_arguments_are_one_line(tmp_path, words, python, problem):
    write_program(tmp_path / "bin" / "nvidia-smi", "")
    program = write_program(tmp_path / "python", python)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    folders = [str(tmp_path / word) for word in words]
    ended = run("check_gpu.sh", *folders, PYTHON=str(program), PATH=path)
    assert ended.returncode == 2 and not (tmp_path / "a").exists()
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and problem in line

"""The exit status of tools/check_data.py: 0, 1, or 2."""

from __future__ import annotations

import json

import pytest
from squares import write_tiny_config
from tool_runner import failure, run_tool


@pytest.fixture
def cfg(tmp_path):
    return write_tiny_config(tmp_path)


def _check(cfg, tmp_path, *arguments):
    return run_tool("check_data", "--cfg", cfg, "--output-dir", tmp_path / "check", *arguments)


def test_nothing_wrong_is_0(cfg, tmp_path):
    outcome = _check(cfg, tmp_path)
    assert outcome.status == 0 and "nothing is wrong" in outcome.out
    assert (tmp_path / "check" / "check_data.html").exists()


def test_something_wrong_is_1_and_fix_writes_one_file_for_one_data_set(cfg, tmp_path):
    path = tmp_path / "squares" / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 99})
    path.write_text(json.dumps(content))
    outcome = _check(cfg, tmp_path, "--fix", tmp_path / "out.json")
    assert outcome.status == 1 and "1 finding" in outcome.out
    assert "1 box left out as a repetition" in outcome.out
    (tmp_path / "out.json").rename(path)
    assert _check(cfg, tmp_path).status == 0


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["TRAIN.DATASETS", "('none',)"], "unknown data set none"),
        (["SOLVER.MAX_ITR", "1"], "did you mean SOLVER.MAX_ITER?"),
        (["--fix", "/dev/null/out.json"], "cannot write /dev/null/out.json"),
    ],
)
def test_bad_input_is_2(cfg, tmp_path, arguments, fault):
    assert fault in failure(_check(cfg, tmp_path, *arguments))


def test_a_broken_annotation_file_is_2(cfg, tmp_path):
    (tmp_path / "squares" / "annotations.json").write_text("{")
    assert "not JSON" in failure(_check(cfg, tmp_path))

from __future__ import annotations

import re

import pytest
from squares import make_squares, write_tiny_config
from tool_runner import failure, run_tool

from detectron_ext.commands.demo import demo, photograph_settings
from detectron_ext.errors import UserError


def test_the_report_never_shows_settings_that_its_models_were_not_trained_with(tmp_path):
    model = {"RetinaNet": str(write_tiny_config(tmp_path))}
    folder = str(tmp_path / "demo")
    page = demo(model, folder, ["SOLVER.MAX_ITER", "2"])
    with open(page) as file:
        before = file.read()
    with pytest.raises(UserError, match="SOLVER.MAX_ITER 2, but now it is 6"):
        demo(model, folder)
    demo(model, folder, ["SOLVER.MAX_ITER", "2", "LIBRA.LOG_PERIOD", "5"])
    with open(page) as file:
        assert file.read() == before


def test_the_time_is_left_out_if_the_log_is_cut_off(tmp_path):
    model = {"RetinaNet": str(write_tiny_config(tmp_path))}
    folder = tmp_path / "demo"
    settings = ["SOLVER.MAX_ITER", "4", "LIBRA.LOG_PERIOD", "2"]
    assert "<td>–</td>" not in _row(demo(model, str(folder), settings), "Training time")
    (log,) = folder.glob("*/train/*/*/stats.jsonl")
    log.write_text(log.read_text()[:-20])
    row = _row(demo(model, str(folder), settings), "Training time")
    assert "–" in row and " min " not in row


def test_an_image_that_cannot_be_read_is_not_shown(tmp_path, caplog):
    model = {"RetinaNet": str(write_tiny_config(tmp_path))}
    (tmp_path / "squares/images/3.png").write_bytes(b"")
    settings = ["SOLVER.MAX_ITER", "2", "LIBRA.DATA.SKIP_BAD_IMAGES", "True"]
    page = demo(model, str(tmp_path / "demo"), settings)
    assert "squares: not drawn: " in caplog.text
    with open(page, encoding="utf-8") as file:
        shown = re.findall("<figcaption>(.*?)</figcaption>", file.read())
    assert shown == ["1.png", "2.png", "4.png", "5.png", "6.png"]


def test_only_the_flag_chooses_the_output_folder(tmp_path):
    outcome = run_tool("demo", "OUTPUT_DIR", tmp_path / "elsewhere")
    assert "OUTPUT_DIR cannot be set here: use --output-dir" in failure(outcome)


def _row(page, label):
    with open(page, encoding="utf-8") as file:
        return re.search(f"<tr>(?:(?!</tr>).)*{label}.*?</tr>", file.read(), re.DOTALL).group()


def test_photographs_are_trained_on_by_their_folder_alone(tmp_path):
    folder = _photographs(tmp_path)
    model = {"RetinaNet": str(write_tiny_config(tmp_path / "made"))}
    page = demo(model, str(tmp_path / "demo"), [*photograph_settings(folder), "SOLVER.MAX_ITER", 2])
    with open(page, encoding="utf-8") as file:
        assert "scored on 3 other images" in file.read()


def test_photographs_need_a_folder(tmp_path):
    outcome = run_tool("demo", "--photographs", "")
    assert "make demo-photos PHOTOS=FOLDER" in failure(outcome)
    outcome = run_tool("demo", "--photographs", tmp_path)
    assert "has no annotation file of the train part" in failure(outcome)


def _photographs(tmp_path):
    for part, number in (("train", 8), ("valid", 3)):
        make_squares(tmp_path / "made" / part, number)
        made = tmp_path / "made" / part
        (made / "images").rename(tmp_path / part)
        (made / "annotations.json").rename(tmp_path / part / "_annotations.coco.json")
    return str(tmp_path)

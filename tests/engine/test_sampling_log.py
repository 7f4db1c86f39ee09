"""The training log says what the samplers drew."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from detectron_ext.engine.statistics import TrainingStatistics
from detectron_ext.engine.train import train
from detectron_ext.engine.training_data import TrainingMinibatches, open_loader
from detectron_ext.errors import UserError


def _read(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def _shares(line, sampler):
    return np.array([line[f"{sampler}_negative_share_bin{index}"] for index in range(3)])


@pytest.mark.parametrize("mode", ["none", "select", "reweight"])
def test_each_line_has_the_shares_of_its_iterations(tiny_config, capfd, mode):
    config = tiny_config(
        "LIBRA.RETINANET_SAMPLER.MODE", mode, "LIBRA.RETINANET_SAMPLER.MIN_NEG", "30",
        "LIBRA.LOG_PERIOD", "2", "SOLVER.MAX_ITER", "3",
    )  # fmt: skip
    lines = _read(os.path.join(os.path.dirname(train(config)), "stats.jsonl"))
    assert [line["iter"] for line in lines] == [0, 2]
    for line in lines:
        shares = _shares(line, "retinanet")
        assert shares.sum() == pytest.approx(1)
        if mode == "none":
            assert shares[0] > 0.7 > 0.1 > shares[2]
        else:
            np.testing.assert_allclose(shares, 1 / 3, atol=0.02)
        assert line["retinanet_positives_per_instance"] > 1
        assert line["retinanet_positives_per_instance_std"] > 0
    printed = [row for row in capfd.readouterr().out.splitlines() if row.startswith("json_stats")]
    assert "retinanet_negative_share_bin2" in json.loads(printed[-1].split(": ", 1)[1])


def test_a_sampler_without_effect_on_the_model_is_named(tiny_config, caplog):
    train(tiny_config("LIBRA.SAMPLER.NEGATIVE", "iou_balanced", "SOLVER.MAX_ITER", "1"))
    assert "without effect on RetinaNet: LIBRA.SAMPLER.NEGATIVE" in caplog.messages


def test_each_line_adds_up_the_counts_since_the_previous_line(tmp_path):
    path = str(tmp_path / "stats.jsonl")
    stats = TrainingStatistics(["loss_a"], [], 5, 2, path)
    easy, hard = np.float32([9, 0, 0, 9, 4, 8, 2, 0, 4]), np.float32([0, 0, 3, 3, 0, 0, 2, 2, 4])
    for iteration, counts in enumerate([easy, easy, hard, hard, hard]):
        stats.start_step()
        stats.update({"loss_a": 1.0}, 0, {"rpn": counts, "roi": easy})
        stats.log(iteration, 0.1)
    stats.close()
    lines = _read(path)
    np.testing.assert_allclose(_shares(lines[0], "rpn"), [1, 0, 0])
    np.testing.assert_allclose(_shares(lines[1], "rpn"), [9 / 12, 0, 3 / 12])
    np.testing.assert_allclose(_shares(lines[2], "rpn"), [0, 0, 1])
    assert [line["rpn_positives_per_instance"] for line in lines] == [2, 1, 0]
    assert [line["rpn_positives_per_instance_std"] for line in lines] == [0, 1, 0]
    assert [line["rpn_instances_without_positives"] for line in lines] == [0, 1 / 2, 1]
    assert [line["rpn_positives_per_image"] for line in lines] == [1, 1 / 2, 0]
    assert [line["rpn_negatives_per_image"] for line in lines] == [9 / 4, 12 / 8, 3 / 4]
    assert {line["roi_negative_share_bin0"] for line in lines} == {1}


_DAMAGED = [
    b"null", b"{}", b"12", b"[]", b"", b'{"iter": null}', b'{"iter": "3"}', b'{"iter": NaN}',
    b"[" * 100000, b'{"iter": 3, "\xff', b'{"iter": 4',
]  # fmt: skip


@pytest.mark.parametrize("damaged", _DAMAGED, ids=lambda line: repr(line[:12]))
def test_damaged_lines_are_dropped_only_at_the_end(tmp_path, damaged):
    path = tmp_path / "stats.jsonl"
    kept = b'{"iter": 0}\nnull\n{"iter": 2}\n'
    path.write_bytes(kept + damaged + b"\n" + b'{"iter": 5}\n' + damaged)
    TrainingStatistics([], [], 9, 2, str(path), start_iter=3).close()
    assert path.read_bytes() == kept


def test_a_last_line_without_line_end_is_kept(tmp_path):
    path = tmp_path / "stats.jsonl"
    path.write_text('{"iter": 0}\n{"iter": 2}')
    TrainingStatistics([], [], 9, 2, str(path), start_iter=3).close()
    assert path.read_text() == '{"iter": 0}\n{"iter": 2}\n'


def test_statistics_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(UserError, match=f"cannot read statistics {tmp_path}: Is a directory"):
        TrainingStatistics([], [], 9, 2, str(tmp_path), start_iter=3)


@pytest.mark.parametrize("num_threads", ["1", "3"])
def test_the_draw_depends_only_on_the_number_of_the_minibatch(tiny_config, num_threads):
    config = tiny_config(
        "LIBRA.RETINANET_SAMPLER.MODE", "select", "LIBRA.RETINANET_SAMPLER.MIN_NEG", "9",
        "DATA_LOADER.NUM_THREADS", num_threads, "SOLVER.MAX_ITER", "9",
    )  # fmt: skip
    minibatches = TrainingMinibatches(config)
    expected = [minibatches(number) for number in (8, 7, 6, 5)][::-1]
    with open_loader(minibatches, config, 1, start_iter=5) as loader:
        for (blobs,), other in zip(loader, expected):
            assert blobs.keys() == other.keys()
            for name, blob in blobs.items():
                np.testing.assert_array_equal(blob, other[name], err_msg=name)
    labels = "retnet_cls_labels_fpn3"
    same_images = TrainingMinibatches(tiny_config("RNG_SEED", str(config.RNG_SEED)))(5)
    assert (same_images[labels] == 0).sum() > 10 * (expected[0][labels] == 0).sum()

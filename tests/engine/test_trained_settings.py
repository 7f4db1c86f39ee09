"""Weights in a run's folder that were trained with other settings."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest
import yaml

from detectron_ext import config as configuration
from detectron_ext.engine import trained_settings
from detectron_ext.engine.checkpoints import Checkpoint
from detectron_ext.engine.learning_rate import learning_rate
from detectron_ext.engine.train import train
from detectron_ext.engine.trained_settings import check_checkpoint, check_final
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import UserError, WeightsError

_LEARNT = [
    ("LIBRA.BALANCED_L1.ON", "True"),
    ("LIBRA.BFP.ON", "True"),
    ("LIBRA.RETINANET_SAMPLER.MODE", "select"),
    ("RETINANET.LOSS_GAMMA", "1.5"),
    ("RNG_SEED", "4"),
    ("TRAIN.SCALES", "(96,)"),
]
_SCHEDULE = [
    ("SOLVER.MAX_ITER", "8"),
    ("SOLVER.BASE_LR", "0.001"),
]
_MOVED = {
    "TRAIN.WEIGHTS": ("/cache/detectron/R-50.pkl", "https://dl.fbaipublicfiles.com/R-50.pkl"),
    "TRAIN.PROPOSAL_FILES": ("('a/train.pkl', 'a/val.pkl')", "('b/train.pkl', 'val.pkl')"),
    "DATASETS_EXTRA.squares.ann_fn": ("a/squares.json", "/b/squares.json"),
    "DATASETS_EXTRA.squares.im_dir": ("a/images", "pictures"),
}
_OTHER_FILES = [
    ("TRAIN.WEIGHTS", "", "a/model_final.pkl"),
    ("TRAIN.WEIGHTS", "a/model_final.pkl", ""),
    ("TRAIN.WEIGHTS", "", "a/"),
    ("TRAIN.WEIGHTS", "a/R-50.pkl", "a/R-101.pkl"),
    ("TRAIN.PROPOSAL_FILES", "()", "('a/train.pkl',)"),
    ("TRAIN.PROPOSAL_FILES", "('a/train.pkl', 'a/val.pkl')", "('a/val.pkl', 'a/train.pkl')"),
    ("DATASETS_EXTRA.squares.ann_fn", "a/squares.json", "a/squares2.json"),
]
_WITHOUT_EFFECT = [
    "OUTPUT_DIR", "elsewhere", "TEST.SCALE", "64", "VIS", "True", "LIBRA.LOG_PERIOD", "7",
    "DATA_LOADER.NUM_THREADS", "1", "LIBRA.THREADS", "1", "TRAIN.SNAPSHOT_ITERS", "5", "NUM_GPUS",
    "0", "LIBRA.DATA.SKIP_BAD_IMAGES", "True", "DATASETS_EXTRA.other.ann_fn", "a",
    "DATASETS_EXTRA.other.im_dir", "b", "RETINANET.RETINANET_ON", "True",
]  # fmt: skip


@pytest.fixture
def final(tiny_config, tmp_path):
    """A weights file that says it was trained as tiny_config() asks."""
    path = str(tmp_path / "run" / "model_final.pkl")
    return _write(path, configuration.dump_legacy_yaml(tiny_config()))


def _write(path, cfg):
    write_weights(path, Weights({"a": np.zeros(1)}, cfg, None))
    return path


def _checkpoint(path):
    return Checkpoint(path, 2, read_weights(path).cfg)


@pytest.mark.parametrize("key, value", _LEARNT + _SCHEDULE)
def test_final_weights_of_other_settings_are_refused(tiny_config, final, key, value):
    with pytest.raises(UserError) as caught:
        check_final(tiny_config(key, value), final)
    message = str(caught.value)
    assert f"{final} was trained with {key} " in message and "\n" not in message
    assert "another OUTPUT_DIR, remove " + os.path.dirname(final) in message
    assert f"TRAIN.AUTO_RESUME False, or test it unchanged with TEST.WEIGHTS {final}" in message


def test_a_checkpoint_of_other_settings_is_refused_with_three_solutions(tiny_config, final):
    with pytest.raises(UserError) as caught:
        check_checkpoint(tiny_config("RNG_SEED", "4"), _checkpoint(final))
    folder = os.path.dirname(final)
    ways = f"choose another OUTPUT_DIR, remove {folder}, or set TRAIN.AUTO_RESUME False"
    assert str(caught.value).endswith(": " + ways)


def test_renaming_is_not_advised_for_weights_after_more_iterations(tiny_config, final):
    with pytest.raises(UserError, match="MAX_ITER 6, but now it is 5: choose another") as caught:
        check_final(tiny_config("SOLVER.MAX_ITER", "5"), final)
    assert "rename" not in str(caught.value)


def test_renaming_is_not_advised_for_weights_without_training(tiny_config, final):
    _write(final, configuration.dump_legacy_yaml(tiny_config("SOLVER.MAX_ITER", "0")))
    with pytest.raises(UserError, match="MAX_ITER 0, but now it is 6: choose another"):
        check_final(tiny_config(), final)


def _moved(config, final, *overrides):
    """Store the settings with old places; returns a configuration with new ones."""
    before = [part for key, (stored, _) in _MOVED.items() for part in (key, stored)]
    _write(final, configuration.dump_legacy_yaml(config(*before)))
    return config(
        *(part for key, (_, wanted) in _MOVED.items() for part in (key, wanted)), *overrides
    )


def test_final_weights_are_used_if_only_files_have_moved(tiny_config, final, caplog):
    """Detectron stores the path of a download instead of its URL."""
    config = _moved(tiny_config, final)
    with caplog.at_level(logging.WARNING):
        check_final(config, final)
    (record,) = caplog.records
    assert "is used unchanged" in record.message and "\n" not in record.message
    stored, address = _MOVED["TRAIN.WEIGHTS"]
    assert f"TRAIN.WEIGHTS {address!r}, was {stored!r}" in record.message
    assert all(key in record.message for key in _MOVED)
    with pytest.raises(UserError, match="was trained with RNG_SEED .* or test it unchanged"):
        check_final(config.with_overrides(["RNG_SEED", "4"]), final)


@pytest.mark.parametrize("key, stored, wanted", _OTHER_FILES)
def test_a_file_with_another_name_is_another_setting(tiny_config, final, key, stored, wanted):
    _write(final, configuration.dump_legacy_yaml(tiny_config(key, stored)))
    config = tiny_config(key, wanted)
    with pytest.raises(UserError, match=f"was trained with {key} "):
        check_final(config, final)
    with pytest.raises(UserError, match=f"was trained with {key} "):
        check_checkpoint(config, _checkpoint(final))


@pytest.mark.parametrize(
    "available, stored, wanted, is_said",
    [(0, 8, 0, False), (0, 0, 8, False), (1, 8, 1, False), (8, 1, 8, True), (8, 8, 0, True)],
)
def test_num_gpus_is_compared_by_the_number_in_use(
    tiny_config, final, caplog, monkeypatch, available, stored, wanted, is_said
):
    monkeypatch.setattr(trained_settings, "available_gpus", lambda: available)
    _write(final, configuration.dump_legacy_yaml(tiny_config("NUM_GPUS", stored)))
    config = tiny_config("SOLVER.MAX_ITER", "6", "NUM_GPUS", wanted)
    with caplog.at_level(logging.WARNING):
        check_final(config, final)
        check_checkpoint(config, _checkpoint(final))
    assert len(caplog.records) == (2 if is_said else 0)
    assert all(f"NUM_GPUS {wanted}, was {stored}" in record.message for record in caplog.records)


@pytest.mark.parametrize("key, value", _LEARNT)
def test_a_checkpoint_of_another_model_is_refused(tiny_config, final, key, value):
    with pytest.raises(UserError, match=f"was trained with {key} .*another OUTPUT_DIR"):
        check_checkpoint(tiny_config("SOLVER.MAX_ITER", "8", key, value), _checkpoint(final))


def test_a_checkpoint_with_another_schedule_is_continued_with_a_warning(tiny_config, final, caplog):
    config = _moved(tiny_config, final, *(part for pair in _SCHEDULE for part in pair))
    with caplog.at_level(logging.WARNING):
        check_checkpoint(config, _checkpoint(final))
    (record,) = caplog.records
    assert "SOLVER.MAX_ITER 8, was 6" in record.message
    assert all(key in record.message for key in [*_MOVED, *dict(_SCHEDULE)])


def test_settings_without_effect_on_the_weights_are_not_compared(tiny_config, final, caplog):
    with caplog.at_level(logging.WARNING):
        check_final(tiny_config(*_WITHOUT_EFFECT), final)
        check_checkpoint(tiny_config(*_WITHOUT_EFFECT), _checkpoint(final))
    assert not caplog.records


@pytest.mark.parametrize(
    "cfg", [None, "", "- a list", "a: [", "!!python/object/apply:os.getcwd []"]
)
def test_missing_settings_are_not_compared(tiny_config, tmp_path, caplog, cfg):
    path = _write(str(tmp_path / "model_final.pkl"), cfg)
    with caplog.at_level(logging.WARNING):
        check_final(tiny_config("RNG_SEED", "4"), path)
    (record,) = caplog.records
    assert path in record.message and "compared" in record.message


def test_a_key_that_detectron_does_not_have_counts_as_its_default(tiny_config, tmp_path):
    """Tuples and numpy values of Detectron are equal to lists and numbers of this project."""
    config = tiny_config("LIBRA.RETINANET_HEAD.USE_GN", "False")
    sections = ("FPN", "GROUP_NORM", "MODEL", "RESNETS", "RETINANET", "RPN", "SOLVER", "TRAIN")
    detectrons = {"PIXEL_MEANS": config.PIXEL_MEANS, "RNG_SEED": np.int64(config.RNG_SEED)}
    detectrons.update({section: dict(config[section]) for section in sections})
    path = _write(str(tmp_path / "model_final.pkl"), yaml.dump(detectrons))
    assert "python/tuple" in read_weights(path).cfg and "numpy" in read_weights(path).cfg
    check_final(config, path)
    with pytest.raises(UserError, match="LIBRA.BALANCED_L1.ON False, but now it is True"):
        check_final(config.with_overrides(["LIBRA.BALANCED_L1.ON", True]), path)


def test_training_refuses_finished_weights_of_another_loss(tiny_config):
    final = train(tiny_config("SOLVER.MAX_ITER", "1"))
    before = os.stat(final).st_mtime_ns
    other = ["SOLVER.MAX_ITER", "1", "LIBRA.BALANCED_L1.ON", "True"]
    with pytest.raises(UserError, match="BALANCED_L1.ON False, but now it is True"):
        train(tiny_config(*other))
    assert os.stat(final).st_mtime_ns == before
    anew = read_weights(train(tiny_config(*other, "TRAIN.AUTO_RESUME", "False")))
    assert configuration.load_legacy_yaml(anew.cfg)["LIBRA"]["BALANCED_L1"]["ON"] is True


def test_a_finished_training_can_be_continued_exactly(tiny_config, tmp_path):
    steady = ["SOLVER.LR_POLICY", "step"]  # the rate does not depend on MAX_ITER
    long = [*steady, "SOLVER.MAX_ITER", "4"]
    short = train(tiny_config(*steady, "SOLVER.MAX_ITER", "2"))
    with pytest.raises(UserError, match="MAX_ITER 2, but .* 4: .* rename it to model_iter1.pkl"):
        train(tiny_config(*long))
    os.rename(short, short.replace("final", "iter1"))
    longer = read_weights(train(tiny_config(*long))).blobs
    straight = train(tiny_config(*long, "OUTPUT_DIR", str(tmp_path / "straight")))
    for name, blob in read_weights(straight).blobs.items():
        np.testing.assert_array_equal(blob, longer[name], err_msg=name)


@pytest.fixture
def checkpoint(tiny_config):
    """A run that was stopped after its third iteration: its newest checkpoint."""
    final = train(tiny_config("SOLVER.MAX_ITER", "3"))
    os.rename(final, final.replace("final", "iter2"))
    return final.replace("final", "iter2")


def test_momenta_are_scaled_to_the_rate_of_the_new_schedule(tiny_config, checkpoint, caplog):
    with caplog.at_level(logging.DEBUG, "detectron_ext"):
        train(tiny_config("SOLVER.MAX_ITER", "4", "SOLVER.BASE_LR", "0.0008"))
    (message,) = [r.message for r in caplog.records if "rescaling" in r.message]
    old = learning_rate(tiny_config("SOLVER.MAX_ITER", "3").SOLVER, 2)
    assert message.startswith(f"learning rate {old:.6f} -> 0.000")


def test_a_stored_schedule_that_is_invalid_here_is_ignored(tiny_config, tmp_path):
    config = tiny_config()
    cfg = configuration.dump_legacy_yaml(config).replace("GAMMA: 0.1", "GAMMA: 0")
    path = _write(str(tmp_path / "model_iter2.pkl"), cfg)
    assert check_checkpoint(config, _checkpoint(path)) == config.SOLVER


def test_a_checkpoint_after_the_last_iteration_is_refused(tiny_config, checkpoint):
    with pytest.raises(
        UserError, match="model_iter2.pkl was written after 3 .* SOLVER.MAX_ITER is 2"
    ):
        train(tiny_config("SOLVER.MAX_ITER", "2"))
    assert os.listdir(os.path.dirname(checkpoint)).count("model_final.pkl") == 0


def test_a_checkpoint_of_the_last_iteration_is_the_result(tiny_config, checkpoint):
    before = read_weights(checkpoint).blobs
    after = read_weights(train(tiny_config("SOLVER.MAX_ITER", "3"))).blobs
    assert all((after[name] == blob).all() for name, blob in before.items())


@pytest.mark.parametrize("lost", ["retnet_cls_conv_n0_fpn3_w", "conv1_w", "fpn_6_w_momentum"])
def test_a_checkpoint_that_lacks_a_blob_is_refused(tiny_config, checkpoint, lost):
    blobs = read_weights(checkpoint).blobs
    del blobs[lost]
    write_weights(checkpoint, Weights(blobs, None, None))
    with pytest.raises(WeightsError, match=f"lack 1 of .*{lost}"):
        train(tiny_config("SOLVER.MAX_ITER", "4"))

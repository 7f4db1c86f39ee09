"""The graph of several processes: which sums there are, where they stand and what they hold."""

from __future__ import annotations

import pytest
from squares import write_tiny_config, write_tiny_rcnn_config

from detectron_ext import config as configuration
from detectron_ext.errors import ConfigError
from detectron_ext.modeling import build_model, builder, process_sums

WRITERS = {"retinanet": write_tiny_config, "faster_rcnn": write_tiny_rcnn_config}


def _build(folder, detector="retinanet", processes=2, *overrides):
    path = WRITERS[detector](folder)
    return build_model(configuration.load(str(path), overrides), True, processes)


def _sums(model) -> dict:
    """Return the name of each sum to the index of its operator and the blobs that it sums."""
    operators = model.net.Proto().op
    return {
        op.input[0]: (index, list(operators[index - 1].input))
        for index, op in enumerate(operators)
        if op.type == "Allreduce"
    }


def test_one_process_sums_nothing(tmp_path):
    model = _build(tmp_path, processes=1)
    assert not _sums(model) and not model.common_worlds
    names = {blob for op in model.net.Proto().op for blob in op.input}
    assert process_sums.STOP not in names


@pytest.mark.parametrize("memonger", ["True", "False"])
@pytest.mark.parametrize("detector", list(WRITERS))
def test_each_gradient_is_summed_once_between_its_last_part_and_its_use(
    tmp_path, monkeypatch, detector, memonger
):
    monkeypatch.setattr(process_sums, "_BUCKET_NUMBERS", 100_000)
    model = _build(tmp_path, detector, 2, "LIBRA.CLIP_GRADIENTS", "5.0", "MEMONGER", memonger)
    sums = {name: found for name, found in _sums(model).items() if name.startswith("gradients_")}
    assert len(sums) > 3
    summed = [blob for _, blobs in sums.values() for blob in blobs]
    assert sorted(summed) == sorted(
        str(model.param_to_grad[param]) for param in model.trainable_params()
    )
    operators = model.net.Proto().op
    for index, blobs in sums.values():
        own = {"Reshape", "Split"}
        for blob in blobs:
            parts = [
                k for k, op in enumerate(operators) if blob in op.output and op.type not in own
            ]
            after = [operators[k].type for k in parts if k > index]
            assert after[0] == "Mul"  # of the clipping
            assert parts[0] < index


def test_the_first_gradients_are_sent_before_the_backward_pass_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(process_sums, "_BUCKET_NUMBERS", 100_000)
    model = _build(tmp_path)
    first = _sums(model)["gradients_0_world"][0]
    types = [op.type for op in model.net.Proto().op]
    assert types[first:].count("ConvGradient") > 10


def test_the_order_of_sums_does_not_depend_on_the_order_of_the_backward_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(process_sums, "_BUCKET_NUMBERS", 100_000)
    model = _build(tmp_path, "retinanet", 2, "MEMONGER", "False")
    wanted = [(name, blobs) for name, (_, blobs) in _sums(model).items()]
    shuffled = _build_with_shuffled_backward_pass(tmp_path / "other", monkeypatch)
    assert [(name, blobs) for name, (_, blobs) in _sums(shuffled).items()] == wanted


def _build_with_shuffled_backward_pass(folder, monkeypatch):
    """Build the model with other positions of the operators that complete gradients."""
    folder.mkdir()
    real = process_sums._gradient_sizes

    def sizes(model):
        operators = list(model.net.Proto().op)
        start = next(k for k, op in enumerate(operators) if op.type.endswith("Gradient"))
        model.net.Proto().ClearField("op")
        model.net.Proto().op.extend(operators[:start] + operators[start:][::-1])
        return real(model)

    monkeypatch.setattr(process_sums, "_gradient_sizes", sizes)
    return _build(folder, "retinanet", 2, "MEMONGER", "False")


def test_each_sum_has_its_own_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(process_sums, "_BUCKET_NUMBERS", 100_000)
    model = _build(tmp_path, "faster_rcnn")
    assert len(set(model.common_worlds)) == len(model.common_worlds) == len(_sums(model))
    assert set(model.common_worlds) <= set(map(str, model.net.Proto().external_input))


def test_what_is_reported_is_summed_last(tmp_path):
    model = _build(tmp_path)
    sums = _sums(model)
    assert list(sums)[-1] == "reported_world"
    reported = sums["reported_world"][1]
    assert reported == [process_sums.STOP, *model.losses, "sampling_counts_retinanet"]
    assert sums["retnet_normalisers_world"][1] == ["retnet_fg_num", "retnet_bg_num"]


def test_the_gradients_of_the_negatives_of_all_processes_are_balanced(tmp_path):
    settings = ["LIBRA.RETINANET_NEGATIVES.WEIGHTS", "gradient_balanced"]
    model = _build(tmp_path, "retinanet", 2, *settings)
    index, blobs = _sums(model)["retnet_negative_gradients_sum_world"]
    assert blobs == [f"retnet_negative_gradients_fpn{level}" for level in range(3, 8)]
    rule = [op.name for op in model.net.Proto().op].index("NegativeWeights")
    assert index < rule


def test_the_drawn_anchors_of_all_processes_are_counted(tmp_path):
    model = _build(tmp_path, "faster_rcnn", 2, "LIBRA.SAMPLER.RPN_NORMALISER", "drawn")
    assert _sums(model)["rpn_drawn_sum_world"][1] == ["rpn_num_drawn"]


def test_gpus_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "usable_gpus", lambda config: 1)
    with pytest.raises(ConfigError, match="NUM_GPUS must be 0 with --num-shards"):
        _build(tmp_path)

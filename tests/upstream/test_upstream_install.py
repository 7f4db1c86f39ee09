"""What installing and uninstalling change, and the configuration while it is installed."""

from __future__ import annotations

import re
import sys
import types

import pytest

from detectron_ext import upstream
from detectron_ext.config.keys import default_tree
from detectron_ext.errors import ConfigError, UserError
from detectron_ext.upstream import cfg_node, cpu_mode


def _snapshot(cfg):
    """Return the identities of all attributes of the modules that may be patched."""
    watched = ("detectron.", "caffe2.python.core", "caffe2.python.utils", "caffe2.python.workspace")
    found = {("cfg", key): id(cfg[key]) for key in cfg}
    for name, module in list(sys.modules.items()):
        if not (name.startswith(watched) or name == "numpy") or module is None:
            continue
        for key, value in list(vars(module).items()):
            if not isinstance(value, types.ModuleType):
                found[name, key] = id(value)
            if isinstance(value, type) and value.__module__ == name:
                found.update(((name, key, part), id(v)) for part, v in vars(value).items())
    return found


def test_uninstalling_restores_every_attribute(importable):
    upstream.install()  # imports what it patches
    upstream.uninstall()
    before = _snapshot(importable)
    upstream.install(cpu=True)
    during = _snapshot(importable)
    changed = {key for key in before if during.get(key) != before[key]}
    added = during.keys() - before.keys()
    assert ("detectron.modeling.fast_rcnn_heads", "add_fast_rcnn_losses") in changed
    assert ("caffe2.python.core", "DeviceOption") in changed
    assert ("cfg", "LIBRA") in added
    # numpy 1.23 removed asscalar; where numpy has it, it stays numpy's own.
    assert (("numpy", "asscalar") in added) is not (("numpy", "asscalar") in before)
    assert ("numpy", "asscalar") not in changed
    upstream.install()
    assert _snapshot(importable) == during
    upstream.uninstall()
    assert _snapshot(importable) == before
    assert not upstream.is_installed()
    upstream.uninstall()


def test_a_changed_signature_is_refused(importable, monkeypatch):
    upstream.install()
    upstream.uninstall()
    import detectron.roi_data.fast_rcnn as minibatches

    monkeypatch.setattr(minibatches, "_sample_rois", lambda entry, scale: None)
    before = _snapshot(importable)
    wanted = r"^this checkout .*_sample_rois takes \(entry, scale\), not \(roidb, im_scale, batch_i"
    with pytest.raises(UserError, match=wanted) as caught:
        upstream.install()
    assert "\n" not in str(caught.value)
    assert _snapshot(importable) == before


def test_the_libra_node_has_this_projects_defaults(cfg):
    assert default_tree()["LIBRA"] == cfg.LIBRA
    assert cfg.LIBRA.BFP.ON is False


def _merge(path, text):
    from detectron.core.config import merge_cfg_from_file

    path.write_text(text)
    merge_cfg_from_file(str(path))


def test_files_and_pairs_set_the_libra_node(cfg, tmp_path):
    from detectron.core.config import merge_cfg_from_list

    (tmp_path / "base.yaml").write_text("LIBRA: {BFP: {ON: True}}\nSOLVER: {BASE_LR: 0.5}")
    _merge(tmp_path / "top.yaml", "_BASE_: base.yaml\nLIBRA: {BALANCED_L1: {ON: on, GAMMA: 2}}")
    assert cfg.LIBRA.BFP.ON is True and cfg.LIBRA.BALANCED_L1.ON is True
    assert cfg.LIBRA.BALANCED_L1.GAMMA == 2.0 and cfg.SOLVER.BASE_LR == 0.5
    assert cfg.LIBRA.BFP.REFINE_TYPE == "non_local"
    merge_cfg_from_list(["LIBRA.BFP.REFINE_TYPE", "conv", "SOLVER.BASE_LR", "0.25"])
    assert cfg.LIBRA.BFP.REFINE_TYPE == "conv" and cfg.SOLVER.BASE_LR == 0.25


def test_wrong_keys_and_values_of_the_libra_node_are_named(cfg, tmp_path):
    with pytest.raises(ConfigError, match=r"LIBRA\.BFP\.OM .*did you mean LIBRA\.BFP\.ON"):
        _merge(tmp_path / "wrong.yaml", "LIBRA: {BFP: {OM: True}}")
    with pytest.raises(ConfigError, match=r"LIBRA\.BALANCED_L1\.GAMMA .* expects a float"):
        _merge(tmp_path / "wrong.yaml", "LIBRA: {BALANCED_L1: {GAMMA: much}}")


@pytest.mark.parametrize("as_pairs", [True, False])
@pytest.mark.parametrize(
    ("key", "value", "error", "fault"),
    [
        ("LIBRAS", "1", (KeyError, AssertionError), "Non-existent .*LIBRAS$"),
        ("NUM_GPUS", "many", ValueError, "Type mismatch .* for config key: NUM_GPUS"),
        ("EXAMPLE.RENAMED.KEY", "1", KeyError, "Key EXAMPLE.RENAMED.KEY was renamed"),
    ],
)
def test_wrong_keys_and_values_of_upstream_raise_upstreams_errors(
    cfg, tmp_path, as_pairs, key, value, error, fault
):
    """The errors are upstream's, and the tools can print them as one line."""
    from detectron.core.config import merge_cfg_from_list

    with pytest.raises(error) as caught:
        if as_pairs:
            merge_cfg_from_list([key, value])
        else:
            _merge(tmp_path / "wrong.yaml", f"{key}: {value}")
    assert isinstance(caught.value, ConfigError)
    source = "the overrides" if as_pairs else str(tmp_path / "wrong.yaml")
    assert re.match(f"{re.escape(source)}: {fault}", str(caught.value))


def test_a_key_without_a_value_is_named(cfg):
    from detectron.core.config import merge_cfg_from_list

    with pytest.raises(ConfigError, match="SOLVER.MAX_ITER has no value"):
        merge_cfg_from_list(["LIBRA.BFP.ON", "True", "SOLVER.MAX_ITER"])
    assert cfg.LIBRA.BFP.ON is False


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("LIBRA.BFP.REFINE_TYPE", "attention", "must be one of none, conv, non_local"),
        ("LIBRA.BALANCED_L1.ALPHA", "-1.0", "must lie between 0.001 and 1000"),
        ("LIBRA.AUGMENTATION.ROTATE90", "True", "ROTATE90 has no effect under upstream"),
        ("LIBRA.BOX_CONVENTION", "mmdet", "BOX_CONVENTION has no effect .* without --upstream"),
        ("LIBRA.BFP.ON", "True", "needs a pyramid, and ResNet.add_ResNet50_conv4_body has none"),
        ("TRAIN.WEIGHTS", "imagenet://X", "X is no file, and upstream .* tools/convert_backbone"),
    ],
)
def test_unsupported_settings_stop_the_model_build(cfg, key, value, reason):
    from detectron.core.config import merge_cfg_from_list
    from detectron.modeling import model_builder

    body = ["MODEL.CONV_BODY", "ResNet.add_ResNet50_conv4_body", "MODEL.NUM_CLASSES", 3]
    merge_cfg_from_list([*body, key, value])
    with pytest.raises(ConfigError, match=reason):
        model_builder.create("generalized_rcnn", train=True)


def test_keys_that_a_model_does_not_use_are_named(cfg, caplog):
    cfg.LIBRA.SAMPLER.RPN = True
    for train, warnings in ((False, 0), (True, 1)):
        cfg_node.check(cfg, train)
        assert caplog.messages.count("without effect on Fast R-CNN: LIBRA.SAMPLER.RPN") == warnings


def test_one_replica_stands_for_all_gpus_on_the_cpu(cfg):
    from detectron.core.config import assert_and_infer_cfg, merge_cfg_from_list

    for number in (8, 0):
        cfg.immutable(False)
        merge_cfg_from_list(["NUM_GPUS", number])
        assert_and_infer_cfg(cache_urls=False)
        assert cfg.NUM_GPUS == 1 and cfg.is_immutable()


@pytest.mark.parametrize(("asked", "used", "on_cpu"), [(8, 2, False), (1, 1, False), (0, 1, True)])
def test_num_gpus_selects_the_device_on_a_machine_with_two_gpus(
    importable, monkeypatch, asked, used, on_cpu
):
    from caffe2.python import workspace

    monkeypatch.setattr(workspace, "has_gpu_support", True)
    monkeypatch.setattr(workspace, "NumGpuDevices", lambda: 2)
    monkeypatch.setattr(workspace, "NumCudaDevices", lambda: 2)
    about = {"name": "Tesla V100", "major": 7, "minor": 0}
    monkeypatch.setattr(workspace, "GetDeviceProperties", lambda number: about)
    upstream.install()
    try:
        from detectron.core.config import assert_and_infer_cfg

        assert not cpu_mode.is_on()
        importable.NUM_GPUS = asked
        assert_and_infer_cfg(cache_urls=False)
        assert (importable.NUM_GPUS, cpu_mode.is_on()) == (used, on_cpu)
    finally:
        upstream.uninstall()
    assert not cpu_mode.is_on()


def test_a_failed_switch_to_the_cpu_changes_nothing(importable, monkeypatch):
    upstream.install()
    upstream.uninstall()
    import detectron.core.test_engine as test_engine

    monkeypatch.setattr(test_engine, "run_inference", lambda weights: None)
    before = _snapshot(importable)
    with pytest.raises(UserError, match=r"run_inference takes \(weights\), not \(weights_file"):
        upstream.install(cpu=True)
    assert _snapshot(importable) == before and not upstream.is_installed()


def test_a_dumped_configuration_is_read_back(cfg, tmp_path):
    from detectron.core.config import load_cfg
    from detectron.utils import env

    cfg.LIBRA.BFP.ON = True
    cfg.immutable(True)
    text = env.yaml_dump(cfg)
    assert load_cfg(text).LIBRA.BFP.ON is True
    assert load_cfg(text).is_immutable()
    with pytest.raises(ConfigError, match="is not read from a file"):
        load_cfg("!!python/object/new:os.system [exit]")

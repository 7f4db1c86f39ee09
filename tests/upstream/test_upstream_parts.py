"""Parts from a user's file with the adapter: LIBRA.IMPORTS finds them, upstream's nets use them."""

from __future__ import annotations

import json
import shutil

import pytest
from small_models import write_config
from squares import REPOSITORY

from detectron_ext.errors import ConfigError, DatasetError
from detectron_ext.modeling.bodies import BODIES
from detectron_ext.modeling.box_losses import BOX_LOSSES
from detectron_ext.upstream import cfg_node

pytestmark = pytest.mark.usefixtures("restored_registries")


@pytest.fixture
def merge(tmp_path, cfg):
    """Return a function that merges the imports and settings of examples into upstream's cfg."""

    def merge(imports, libra, *overrides):
        for name in imports:  # copies, because a file is imported only once in a process
            shutil.copy(str(REPOSITORY / "examples" / f"{name}.py"), str(tmp_path))
        parts = [f"{name}.py" for name in imports]
        path = write_config(tmp_path, "retinanet", {})
        content = {"_BASE_": str(path), "LIBRA": {"IMPORTS": parts, **libra}}
        (tmp_path / "own.yaml").write_text(json.dumps(content))
        from detectron.core import config as upstream_config

        upstream_config.merge_cfg_from_file(str(tmp_path / "own.yaml"))
        upstream_config.merge_cfg_from_list(list(overrides))
        upstream_config.assert_and_infer_cfg(cache_urls=False)
        return cfg

    return merge


def test_the_adapter_builds_a_users_parts(merge):
    from detectron.modeling import model_builder

    imports = ["box_loss", "sampler_mode", "body", "refinement"]
    libra = {
        "BOX_LOSS": "log_cosh",
        "RETINANET_SAMPLER": {"MODE": "soft_border"},
        "BFP": {"ON": True, "REFINE_TYPE": "residual"},
    }
    merged = merge(imports, libra, "MODEL.CONV_BODY", "plain_net")
    assert len(merged.LIBRA.IMPORTS) == 4
    model = model_builder.create("retinanet", train=True)
    operators = list(model.net.Proto().op)
    losses = [op.type for op in operators if "/retnet_loss_bbox_fpn" in op.output[0]]
    assert losses.count("Python") == 4 and set(losses) == {"Python", "ConstantFill"}
    assert any("retnet_cls_weights" in blob for op in operators for blob in op.input)
    parameters = {str(name).split("/")[-1] for name in model.params}
    assert {"stage5_w", "bfp_change_w"} <= parameters


def test_imports_work_on_the_command_line(merge, tmp_path):
    path = shutil.copy(str(REPOSITORY / "examples" / "box_loss.py"), str(tmp_path))
    merge([], {}, "LIBRA.IMPORTS", f"['{path}']")
    assert "log_cosh" in BOX_LOSSES
    from detectron.core.config import merge_cfg_from_list

    with pytest.raises(ConfigError, match="LIBRA.IMPORTS in the overrides: there is no file"):
        merge_cfg_from_list(["LIBRA.IMPORTS", "['no_such_file.py']"])


def test_a_stored_configuration_imports_nothing(cfg, tmp_path):
    from detectron.core.config import load_cfg, merge_cfg_from_cfg

    evil = tmp_path / "evil.py"
    evil.write_text("raise RuntimeError('this ran')")
    stored = load_cfg(json.dumps({"LIBRA": {"IMPORTS": [str(evil)]}}))
    merge_cfg_from_cfg(cfg_node._attr_dict(stored))
    assert [str(evil)] == cfg.LIBRA.IMPORTS


def test_other_annotation_formats_are_refused(cfg):
    from detectron.datasets import dataset_catalog

    fields = {"im_dir": "i", "ann_fn": "a.csv", "format": "csv"}
    cfg.DATASETS_EXTRA = cfg_node._attr_dict({"mine": fields})
    from detectron_ext.data.formats import FORMATS

    FORMATS.register("csv")(lambda entry: {})
    with pytest.raises(DatasetError, match="mine has the format csv, and upstream Detectron reads"):
        dataset_catalog.get_ann_fn("mine")


def _operators(tmp_path, libra):
    """Return the operators of upstream's Faster R-CNN for training, and its metrics."""
    from detectron.core import config as upstream_config
    from detectron.modeling import model_builder

    upstream_config.merge_cfg_from_file(str(write_config(tmp_path, "faster_rcnn", libra)))
    upstream_config.assert_and_infer_cfg(cache_urls=False)
    model = model_builder.create("generalized_rcnn", train=True)
    return list(model.net.Proto().op), model.metrics


@pytest.mark.parametrize("normaliser", ["auto", "budget"])
def test_the_rpns_losses_are_divided_by_the_drawn_anchors(cfg, tmp_path, normaliser):
    sampler = {"RPN_NEG_POS_UB": 5.0, "RPN_NORMALISER": normaliser}
    operators, _ = _operators(tmp_path, {"SAMPLER": sampler})
    divided = {op.output[0].split("/")[-1] for op in operators if op.type == "Div"}
    losses = {f"loss_rpn_{kind}_fpn{level}" for kind in ("cls", "bbox") for level in range(2, 7)}
    assert divided & losses == (losses if normaliser == "auto" else set())


def test_gradients_are_clipped_before_upstreams_updates(cfg, tmp_path):
    operators, metrics = _operators(tmp_path, {"CLIP_GRADIENTS": 35.0})
    types = [op.type for op in operators]
    updated = {op.input[0] for op in operators if op.type == "MomentumSGDUpdate"}
    assert {op.input[0] for op in operators if op.type == "SumSqrElements"} == updated
    assert types.index("Sqrt") < types.index("MomentumSGDUpdate")
    assert "gradient_norm" in metrics


def test_upstreams_own_bodies_are_kept(cfg):
    from detectron.modeling import FPN, model_builder

    name = "FPN.add_fpn_ResNet50_conv5_body"
    assert name in BODIES
    assert model_builder.get_func(name) is FPN.add_fpn_ResNet50_conv5_body

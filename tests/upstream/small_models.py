"""Configurations of small models that both this package and upstream can read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

from caffe2.python import workspace
from squares import make_squares

from detectron_ext import config as configuration
from detectron_ext.modeling import build_model

LIBRA = {
    "BFP": {"ON": True, "REFINE_LEVEL": 4, "REFINE_TYPE": "non_local"},
    "BALANCED_L1": {"ON": True, "GAMMA": 1.5},
    "SAMPLER": {
        "NEGATIVE": "iou_balanced", "POSITIVE": "instance_balanced", "RPN_NEG_POS_UB": 5.0
    },
    "CLIP_GRADIENTS": 35.0,
    "RETINANET_HEAD": {"USE_GN": True},
    "LOG_PERIOD": 5,
}  # fmt: skip
_RETINANET = {
    "MODEL": {"TYPE": "retinanet"},
    "RETINANET": {
        "RETINANET_ON": True, "NUM_CONVS": 1, "SCALES_PER_OCTAVE": 2, "ASPECT_RATIOS": [0.5, 1, 2]
    },
    "FPN": {"EXTRA_CONV_LEVELS": True, "RPN_MIN_LEVEL": 3, "RPN_MAX_LEVEL": 6},
}  # fmt: skip
_FASTER_RCNN = {
    "MODEL": {"TYPE": "generalized_rcnn", "FASTER_RCNN": True},
    "FPN": {"MULTILEVEL_ROIS": True, "RPN_MIN_LEVEL": 2, "RPN_MAX_LEVEL": 6},
    "FAST_RCNN": {
        "ROI_BOX_HEAD": "fast_rcnn_heads.add_roi_2mlp_head", "MLP_HEAD_DIM": 64,
        "ROI_XFORM_METHOD": "RoIAlign", "ROI_XFORM_RESOLUTION": 7, "ROI_XFORM_SAMPLING_RATIO": 2,
    },
}  # fmt: skip
MODELS = {"retinanet": _RETINANET, "faster_rcnn": _FASTER_RCNN}


def write_config(folder: Path, model: str, libra: dict | None = None) -> Path:
    """Write 8 images and the configuration of a small R-50 model; return the path of the latter."""
    data = make_squares(folder / "squares", 8)
    tree = _merged(_common(data, folder / "output"), MODELS[model])
    if libra:
        tree["LIBRA"] = libra
    path = folder / f"{model}.yaml"
    path.write_text(json.dumps(tree))  # JSON is YAML
    return path


def write_weights(config_path: Path) -> Path:
    """Write the initial weights of our model of a configuration; they are always the same."""
    model = build_model(configuration.load(config_path), train=True)
    workspace.RunNetOnce(model.param_init_net)
    blobs = {str(name): workspace.FetchBlob(str(name)) for name in model.params}
    workspace.ResetWorkspace()
    path = config_path.with_suffix(".pkl")
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    return path


def _merged(first: dict, second: dict) -> dict:
    return {key: {**first.get(key, {}), **second.get(key, {})}
            if isinstance(first.get(key, {}), dict) else first[key]
            for key in {**first, **second}}  # fmt: skip


def _common(data: dict, output: Path) -> dict:
    return {
        "DATASETS_EXTRA": {"squares": data},
        "OUTPUT_DIR": str(output),
        "NUM_GPUS": 8,
        "MODEL": {"CONV_BODY": "FPN.add_fpn_ResNet50_conv5_body", "NUM_CLASSES": 3},
        "RESNETS": {
            "STEM_FUNC": "basic_gn_stem",
            "SHORTCUT_FUNC": "basic_gn_shortcut",
            "TRANS_FUNC": "bottleneck_gn_transformation",
            "WIDTH_PER_GROUP": 32,
        },
        "GROUP_NORM": {"NUM_GROUPS": 8},
        "FPN": {
            "FPN_ON": True, "DIM": 32, "USE_GN": True, "MULTILEVEL_RPN": True,
            "COARSEST_STRIDE": 64,
        },
        "TRAIN": {
            "DATASETS": ["squares"], "SCALES": [128], "MAX_SIZE": 128, "IMS_PER_BATCH": 2,
            "WEIGHTS": "", "FREEZE_AT": 0, "BATCH_SIZE_PER_IM": 32, "RPN_BATCH_SIZE_PER_IM": 32,
            "RPN_PRE_NMS_TOP_N": 200, "USE_FLIPPED": False,
        },
        "TEST": {
            "DATASETS": ["squares"], "SCALE": 128, "MAX_SIZE": 128, "RPN_PRE_NMS_TOP_N": 200,
        },
        "SOLVER": {
            "BASE_LR": 0.01, "MAX_ITER": 20, "LR_POLICY": "steps_with_decay", "STEPS": [0],
            "GAMMA": 0.1, "WARM_UP_ITERS": 3,
        },
        "DATA_LOADER": {"NUM_THREADS": 1, "MINIBATCH_QUEUE_SIZE": 2},
    }  # fmt: skip

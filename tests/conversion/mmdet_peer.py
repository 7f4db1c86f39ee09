"""Runs mmdetection's own detector on random weights; for a Python that has mmdetection.

    python mmdet_peer.py ARCH IMAGE.npy CHECKPOINT.pth OUTPUTS.npz [load]

Saves the weights as a checkpoint and the raw outputs and detections on the image. With "load", the
weights are those of the checkpoint, loaded strictly. Where mmcv has
no compiled operators, torchvision's RoIAlign and suppression, which mmcv offers as alternatives,
take their place.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import types

import numpy as np
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from mmdet_random import random_state, regions

_CONFIGS = {
    "libra_retinanet_r50": "libra_rcnn/libra-retinanet_r50_fpn_1x_coco.py",
    "retinanet_r50": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "libra_faster_rcnn_r50": "libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py",
    "faster_rcnn_r50": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
}


def _stand_in_for_compiled_operators():
    if importlib.util.find_spec("mmcv._ext"):
        return False

    class Operators(types.ModuleType):
        """Lets mmcv be imported; suppression alone is there."""

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return self._suppress if name == "nms" else lambda *_, **__: self._missing(name)

        @staticmethod
        def _missing(name):
            raise NotImplementedError(name)

        @staticmethod
        def _suppress(boxes, scores, iou_threshold, offset):
            from torchvision.ops import nms

            assert offset == 0
            return nms(boxes, scores, iou_threshold)

    stand_in = Operators("mmcv._ext")
    stand_in.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
    sys.modules["mmcv._ext"] = stand_in
    return True


def _build(arch):
    is_stand_in = _stand_in_for_compiled_operators()
    import mmdet
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    path = os.path.join(os.path.dirname(mmdet.__file__), ".mim", "configs", _CONFIGS[arch])
    config = Config.fromfile(path)
    config.model.backbone.init_cfg = None
    if is_stand_in and "roi_head" in config.model:
        config.model.roi_head.bbox_roi_extractor.roi_layer.use_torchvision = True
    return MODELS.build(config.model).eval(), config


def _outputs(model, image):
    """Raw outputs and detections by name."""
    from mmdet.structures import DetDataSample

    sample = DetDataSample()
    height, width = image.shape[:2]
    # As if the network saw the image enlarged by 1.25: boxes come back divided by that.
    sample.set_metainfo(
        {"img_shape": (height, width), "ori_shape": (round(height / 1.25), round(width / 1.25)),
         "scale_factor": (1.25, 1.25)}
    )  # fmt: skip
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    batch = model.data_preprocessor({"inputs": [tensor], "data_samples": [sample]})
    features = model.extract_feat(batch["inputs"])
    found = {}
    dense = model.rpn_head if hasattr(model, "rpn_head") else model.bbox_head
    for kind, maps in zip(("cls", "box"), dense(features)):
        found.update({f"{kind}_{index}": value for index, value in enumerate(maps)})
    if hasattr(model, "roi_head"):
        boxes = torch.from_numpy(regions(height, width))
        rois = torch.cat((torch.zeros(len(boxes), 1), boxes), dim=1)
        head = model.roi_head._bbox_forward(features, rois)
        found.update(head_cls=head["cls_score"], head_box=head["bbox_pred"])
    predicted = model.predict(batch["inputs"], batch["data_samples"])[0].pred_instances
    rows = (predicted.bboxes, predicted.scores[:, None], predicted.labels[:, None].float() + 1)
    found["detections"] = torch.cat(rows, dim=1)
    return {name: value.numpy() for name, value in found.items()}


def main():
    arch, image, checkpoint, outputs, *load = sys.argv[1:]
    torch.set_num_threads(1)
    model, config = _build(arch)
    if load:
        from mmengine.runner import load_checkpoint

        load_checkpoint(model, checkpoint, map_location="cpu", strict=True)
    else:
        _save_random(model, config, arch, checkpoint)
    with torch.no_grad():
        np.savez(outputs, **_outputs(model, np.load(image)))


def _save_random(model, config, arch, checkpoint):
    state = random_state(arch)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert expected == {name: value.shape for name, value in state.items()}
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}
    model.load_state_dict(tensors)
    content = {
        "meta": {"cfg": config.pretty_text, "epoch": 12, "dataset_meta": {"classes": ("a",) * 80}},
        "state_dict": model.state_dict(),
    }
    torch.save(content, checkpoint)


if __name__ == "__main__":
    main()

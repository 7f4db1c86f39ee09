"""Times mmdetection's own detectors: a training step, or the network on one image."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import time
import types
from typing import Any, Callable

import torch

from detectron_ext.pytorch_benchmark.summary import summary

_WARM_UP_STEPS = 3
_BOXES_PER_IMAGE = 7

CONFIGS = {
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "libra_retinanet": "libra_rcnn/libra-retinanet_r50_fpn_1x_coco.py",
    "faster_rcnn": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "libra_faster_rcnn": "libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py",
}
"""mmdetection's configuration of each detector, in its package."""


def benchmark_mmdet_step(detector: str, size: int, batch: int, steps: int, threads: int) -> dict:
    """Time steps of a detector with ResNet-50 on random images.

    Args:
        detector: a name in CONFIGS.
        size: height and width of the images in pixels, a multiple of 32.
        batch: images per step.
        steps: timed steps, after a few that are not timed.
        threads: CPU threads; 0 keeps PyTorch's number.

    Returns:
        As `detectron_ext.benchmarks.training_step.benchmark_step`, and the versions of both.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, version = _build(detector)
    model.train()
    images = torch.randn(batch, 3, size, size)
    samples = [_sample(size) for _ in range(batch)]
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-5, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        _total(model.loss(images, samples)).backward()
        optimizer.step()

    return summary(_timed(step, steps), size, f"{version}, torch {torch.__version__}")


def benchmark_mmdet_image(detector: str, size: int, steps: int, threads: int) -> dict:
    """Time the network of a detector on one random image, without decoding and suppression.

    Args:
        detector: a RetinaNet in CONFIGS: its network has no part that depends on what it finds.
        size, steps, threads: as of `benchmark_mmdet_step`.

    Returns:
        As of `benchmark_mmdet_step`.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, version = _build(detector)
    model.eval()
    image = torch.randn(1, 3, size, size)

    def run() -> None:
        with torch.no_grad():
            scores, _ = model.forward(image, mode="tensor")
            for score in scores:
                score.sigmoid()

    return summary(_timed(run, steps), size, f"{version}, torch {torch.__version__}")


def _timed(run: Callable[[], None], times: int) -> list[float]:
    """Return the seconds of some runs, after a few that are not timed."""
    seconds = []
    for _ in range(_WARM_UP_STEPS + times):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds[_WARM_UP_STEPS:]


def _total(losses: dict) -> torch.Tensor:
    values = [value for name, value in losses.items() if "loss" in name]
    flat = [v for value in values for v in (value if isinstance(value, (list, tuple)) else [value])]
    return torch.stack([value.sum() for value in flat]).sum()


def _build(detector: str) -> tuple[Any, str]:
    is_stand_in = _stand_in_for_compiled_operators()
    import mmdet
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    folder = os.path.join(os.path.dirname(mmdet.__file__), ".mim", "configs")
    config = Config.fromfile(os.path.join(folder, CONFIGS[detector]))
    config.model.backbone.init_cfg = None
    if is_stand_in and "roi_head" in config.model:
        config.model.roi_head.bbox_roi_extractor.roi_layer.use_torchvision = True
    return MODELS.build(config.model), mmdet.__version__


def _sample(size: int) -> Any:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    corners = torch.rand(_BOXES_PER_IMAGE, 2) * size * 0.6
    extents = (torch.rand(_BOXES_PER_IMAGE, 2) * 0.3 + 0.1) * size
    sample = DetDataSample()
    shape = (size, size)
    sample.set_metainfo(
        {"img_shape": shape, "pad_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)}
    )
    labels = torch.randint(0, 80, (_BOXES_PER_IMAGE,))
    sample.gt_instances = InstanceData(
        bboxes=torch.cat((corners, corners + extents), 1), labels=labels
    )
    return sample


def _stand_in_for_compiled_operators() -> bool:
    """Let mmcv be imported where its operators are not compiled, and return whether that is so.

    Suppression and RoIAlign are then torchvision's, which mmcv itself offers as alternatives.
    """
    if importlib.util.find_spec("mmcv._ext"):
        return False

    class Operators(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return _suppress if name == "nms" else _missing

    stand_in = Operators("mmcv._ext")
    stand_in.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
    sys.modules["mmcv._ext"] = stand_in
    return True


def _suppress(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int) -> Any:
    from torchvision.ops import nms

    assert offset == 0
    return nms(boxes, scores, iou_threshold)


def _missing(*_: Any, **__: Any) -> None:
    raise NotImplementedError("an operator of mmcv that is not compiled")

"""Pictures of a test run, drawn from its detections.json."""

from __future__ import annotations

from detectron_ext.commands.pictures import draw_detections
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.errors import UserError
from detectron_ext.evaluation.detections_file import read_detections


def visualize(config, dataset_name, detections_path, output_dir, threshold=0.5, first=0) -> list:
    """Draw the detections of a test run; returns the paths of the pictures.

    Args:
        config: for DATASETS_EXTRA.
        dataset_name: catalog name of the data set that was tested.
        detections_path: its ``detections.json``.
        output_dir: folder of the pictures, made if needed.
        threshold: lowest score that is drawn.
        first: draw only the first so many images; 0 is all.

    Raises:
        UserError: the data set or the detections cannot be read or do not belong together, or the
            folder cannot be written.
    """
    dataset = CocoDataset(resolve(dataset_name, config))
    detections = read_detections(detections_path)
    _check_belongs(detections, detections_path, dataset)
    image_ids = dataset.image_ids()[: first or None]
    return draw_detections(dataset, detections, output_dir, threshold, image_ids)


def _check_belongs(detections: list, path: str, dataset: CocoDataset) -> None:
    for detection in detections:
        for kind, known in (
            ("image", dataset.coco.imgs),
            ("category", dataset.category_to_contiguous),
        ):
            if detection[f"{kind}_id"] not in known:
                raise UserError(
                    f"{path} has a detection of {kind} {detection[f'{kind}_id']}, which data set "
                    f"{dataset.name} lacks: name the data set that was tested"
                )

"""Drawing the detections of a test, read from its detections.json."""

from __future__ import annotations

from detectron_ext.commands.pictures import draw_detections
from detectron_ext.config.settings import Settings
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.errors import UserError
from detectron_ext.evaluation.detections_file import read_detections


def visualize(
    config: Settings,
    dataset_name: str,
    detections_path: str,
    output_dir: str,
    threshold: float = 0.5,
    first: int = 0,
) -> list[str]:
    """Draw the detections of a test and return the paths of the pictures.

    Args:
        config: a merged configuration. Its DATASETS_EXTRA may have the data set.
        dataset_name: catalog name of the data set that was tested.
        detections_path: ``detections.json`` of the test.
        output_dir: folder for the pictures; it is made if needed.
        threshold: lowest score of a detection that is drawn.
        first: only the first images of the data set are drawn, as many as this number; 0 draws all.

    Raises:
        UserError: the data set or the detections cannot be read, the detections are of another data
            set, or the folder cannot be written.
    """
    dataset = CocoDataset(resolve(dataset_name, config))
    detections = read_detections(detections_path)
    _check_belongs(detections, detections_path, dataset)
    image_ids = dataset.image_ids()[: first or None]
    return draw_detections(
        dataset, detections, output_dir, threshold, image_ids, config.LIBRA.DATA.DEEP_IMAGES
    )


def _check_belongs(detections: list[dict], path: str, dataset: CocoDataset) -> None:
    for detection in detections:
        for kind, known in (
            ("image", dataset.coco.imgs),
            ("category", dataset.category_to_contiguous),
        ):
            if detection[f"{kind}_id"] not in known:
                raise UserError(
                    f"{path} has a detection of {kind} {detection[f'{kind}_id']}, which data set "
                    f"{dataset.name} does not have: name the data set that was tested"
                )

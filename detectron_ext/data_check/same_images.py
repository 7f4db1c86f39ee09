"""Images that several ids or several data sets share.

Files are compared by their content. Only files of equal length can be equal. So most files are told
apart by their length and are not read. What nearly equal pictures mean is told here, too.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from typing import Mapping, NamedTuple, Sequence

from detectron_ext.counted import by_number
from detectron_ext.data_check.finding import MAX_CASES, NO_BOXES, Case, Finding
from detectron_ext.input_files import open_input

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
        with open_input(path) as file:
            for block in iter(lambda: file.read(_BLOCK), b""):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


class _Wording(NamedTuple):
    """How findings about groups of images are said.

    The texts about images are pairs: for one of them, and for several.

    Attributes:
        repeated: what several images of a data set are; ``{count}`` is the number of groups.
        repeated_advice: what to do with them.
        leaked: what images of a test set are; ``{count}``, ``{test}`` and ``{train}`` are replaced.
        leaked_advice: what to do with them.
    """

    repeated: tuple[str, str]
    repeated_advice: str
    leaked: tuple[str, str]
    leaked_advice: str


_EQUAL = _Wording(
    ("{count} image appears under several ids", "{count} images appear under several ids"),
    "join the annotations of each image under one id",
    ("{count} image of {test} is also in {train}", "{count} images of {test} are also in {train}"),
    "the test scores what was trained; leave each image in one of the two data sets",
)
_NEAR = _Wording(
    (
        "{count} group of images that are nearly the same",
        "{count} groups of images that are nearly the same",
    ),
    "compare the pictures of a group; if they are copies of one image, keep one of them",
    (
        "{count} image of {test} is nearly the same as one of {train}",
        "{count} images of {test} are nearly the same as images of {train}",
    ),
    "compare the pictures; if they are copies, the test scores what was trained: leave each image "
    "in one of the two data sets",
)


def same_image_findings(
    equal: Sequence[Sequence[ImageFile]],
    near: Sequence[Sequence[ImageFile]],
    trained: Sequence[str],
    tested: Sequence[str],
) -> list[Finding]:
    """Return what groups of equal and of nearly equal images mean for training and testing.

    Images that are equal are not told again as nearly equal ones.

    Args:
        equal: the result of :func:`equal_files`.
        near: groups of images that are nearly the same; they may contain equal ones.
        trained: names of TRAIN.DATASETS.
        tested: names of TEST.DATASETS.
    """
    # Of equal images, each data set keeps one among its nearly equal ones.
    again = {file for group in equal for file in _all_but_first(group)}
    others = [[file for file in group if file not in again] for group in near]
    told = {_pair(a, b) for group in equal for a in group for b in group}
    return _findings(equal, trained, tested, _EQUAL, set()) + _findings(
        others, trained, tested, _NEAR, told
    )


def _all_but_first(group: Sequence[ImageFile]) -> list[ImageFile]:
    """Return the images of a group without the first one of each data set."""
    firsts = {file.dataset: file for file in reversed(group)}
    return [file for file in group if file is not firsts[file.dataset]]


def _pair(one: ImageFile, other: ImageFile) -> frozenset:
    return frozenset((one, other))


def _findings(
    groups: Sequence[Sequence[ImageFile]],
    trained: Sequence[str],
    tested: Sequence[str],
    wording: _Wording,
    told: set[frozenset],
) -> list[Finding]:
    """Return the findings about groups; pairs of ``told`` are left out."""
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
                leaks[train, test] += [
                    [by_set[train][0], file] for file in by_set[test]
                    if _pair(by_set[train][0], file) not in told
                ]  # fmt: skip
    findings = [_repeated_finding(name, found, wording) for name, found in sorted(repeated.items())]
    for (train, test), found in sorted(leaks.items()):
        if found:
            findings.append(_leak_finding(train, test, found, wording))
    return findings


def _repeated_finding(name: str, groups: list, wording: _Wording) -> Finding:
    first = groups[0]
    cases = [
        Case(name, file.image_id, NO_BOXES, f"id {file.image_id}, group {number}")
        for number, files in enumerate(groups, start=1)
        for file in files[:2]
    ]
    found = by_number(len(groups), *wording.repeated).format(count=len(groups))
    return Finding(
        f"{name}: {found}; first ids {first[0].image_id!r} and {first[1].image_id!r} "
        f"({first[0].path}); {wording.repeated_advice}",
        cases[:MAX_CASES],
    )


def _leak_finding(train: str, test: str, pairs: list, wording: _Wording) -> Finding:
    cases = [
        Case(file.dataset, file.image_id, NO_BOXES, f"{role}, pair {number}")
        for number, (trained, tested) in enumerate(pairs, start=1)
        for role, file in (("trained", trained), ("tested", tested))
    ]
    text = by_number(len(pairs), *wording.leaked)
    leaked = text.format(count=len(pairs), test=test, train=train)
    trained, tested = pairs[0]
    return Finding(
        f"{leaked}; first {tested.path} and {trained.path}; {wording.leaked_advice}",
        cases[:MAX_CASES],
    )

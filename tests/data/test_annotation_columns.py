"""Whole columns give the same as annotations that are examined one by one."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron_ext.data.annotation_columns import passes_checks
from detectron_ext.data.annotation_file import check_annotations
from detectron_ext.data.ground_truth import remove_unusable

_ODD = st.sampled_from([math.nan, math.inf, -math.inf, 2**53 + 1, -1, 0, 0.5, 1])
_ANY = _ODD | st.sampled_from([10**400, True, None, "1", "", [1], {}])


def _images(ids, sides):
    image = st.fixed_dictionaries(
        {"id": ids, "file_name": st.sampled_from(["a", "b"]), "width": sides, "height": sides}
    )
    return st.lists(image, max_size=4, unique_by=lambda image: str(image["id"]))


def _annotations(ids, coordinates, optional):
    return st.lists(
        st.fixed_dictionaries(
            {
                "id": st.integers(1, 10**6), "image_id": ids, "category_id": ids,
                "bbox": st.lists(coordinates, min_size=4, max_size=4),
            },
            optional={"area": optional, "iscrowd": optional, "ignore": optional},
        ),
        max_size=8, unique_by=lambda annotation: annotation["id"],
    )  # fmt: skip


def _contents(ids, sides, coordinates, optional):
    return st.fixed_dictionaries(
        {
            "images": _images(ids, sides),
            "annotations": _annotations(ids, coordinates, optional),
            "categories": st.just([{"id": k, "name": str(k)} for k in (1, 2)]),
        }
    )


_WRONG = _contents(
    st.integers(1, 3) | _ANY, st.integers(1, 9) | _ANY, st.integers(1, 9) | _ANY, _ANY
)


class _Text(str):
    """Text that never passes as a whole, and is right."""


def _slowly(identity):
    return _Text(identity) if isinstance(identity, str) else float(identity)


@given(_WRONG)
@settings(max_examples=100, deadline=None)
def test_what_passes_as_a_whole_passes_item_by_item(content):
    for section in ("images", "annotations"):
        items = content[section]
        if passes_checks(section, items):
            others = [{**item, "id": _slowly(item["id"])} for item in items]
            assert not passes_checks(section, others)
            check_annotations({**content, "images": [], "annotations": [], section: others}, "file")


def _random_content(rng):
    """Small images and boxes around their borders, with odd values here and there."""
    odd = [math.nan, math.inf, -math.inf, 2**53 + 1, 0, 0.5]

    def value(low, high, share=0.03):
        return odd[rng.integers(len(odd))] if rng.random() < share else int(rng.integers(low, high))

    annotations = []
    for identity in range(1, 9):
        box = [value(-3, 7), value(-3, 7), value(0, 6), value(0, 6)]
        annotation = {
            "id": identity, "image_id": int(rng.integers(1, 4)),
            "category_id": int(rng.integers(1, 4)), "bbox": box,
        }  # fmt: skip
        for field, share in (("area", 0.7), ("iscrowd", 0.3), ("ignore", 0.3)):
            if rng.random() < share:
                annotation[field] = value(0, 20, 0.1) if field == "area" else value(0, 2, 0)
        annotations.append(annotation)
    sides = rng.integers(1, 7, (2, 2)).tolist()
    images = [
        {"id": k, "file_name": "a", "width": width, "height": height}
        for k, (width, height) in enumerate(sides, start=1)
    ]
    categories = [{"id": k, "name": str(k)} for k in (1, 2)]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize("seed", range(40))
def test_annotations_are_dropped_as_one_by_one(seed):
    content = _random_content(np.random.default_rng(seed))
    single = copy.deepcopy(content)
    # An area that is no number makes all annotations be examined one by one.
    extra = {"id": 0, "image_id": 77, "category_id": 77, "bbox": [1, 1, 1, 1], "area": True}
    single["annotations"].append(extra)
    expected, found = remove_unusable(single), remove_unusable(content)
    unknown = expected.dropped["with an unknown image_id"]
    unknown.remove(0)
    if not unknown:
        del expected.dropped["with an unknown image_id"]
    assert repr(content) == repr(single)  # NaN is not equal to itself
    assert list(found.dropped.items()) == list(expected.dropped.items())
    assert found.images_with_dropped == expected.images_with_dropped - {"77"}
    assert (found.num_ignored, found.num_beyond) == (expected.num_ignored, expected.num_beyond)


def test_usual_annotations_pass_as_a_whole():
    """Otherwise the tests above would compare nothing, and reading would be slow."""
    image = {"id": 1, "file_name": "a", "width": 5, "height": 5}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0.5, 1, 1], "iscrowd": 0}
    assert passes_checks("images", [image, {**image, "id": 2}])
    assert passes_checks("annotations", [annotation, {**annotation, "id": 2, "area": 1.5}])
    assert not passes_checks("images", [image, {**image, "id": "2"}])
    assert not passes_checks("annotations", [annotation, {**annotation, "bbox": [1, 2, 3]}])
    assert not passes_checks("annotations", [annotation, {**annotation, "bbox": np.zeros(4)}])

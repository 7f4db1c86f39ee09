"""Numbers in messages agree with their nouns and verbs."""

from __future__ import annotations

from detectron_ext.counted import by_number, counted


def test_one_thing_is_singular_and_any_other_number_plural():
    for number, text in ((0, "0 boxes are"), (1, "1 box is"), (2, "2 boxes are")):
        assert f"{counted(number, 'box', 'boxes')} {by_number(number, 'is', 'are')}" == text
    assert [counted(number, "image") for number in (1, 3)] == ["1 image", "3 images"]

"""Which blobs a net frees, and when."""

from __future__ import annotations

from caffe2.python import core

from detectron_ext.modeling.blob_lifetimes import Lifetime, lifetimes, with_freed_blobs


def _operators(*lines):
    """Return operators written as "inputs > outputs"."""
    sides = [[side.split() for side in line.split(">")] for line in lines]
    return [core.CreateOperator("Any", inputs, outputs) for inputs, outputs in sides]


def _freed(operators, kept=()):
    """Return what is freed after each operator."""
    steps = with_freed_blobs(operators, kept)
    assert [step[0] for step in steps] == operators
    assert all(step[1].type == "Free" for step in steps if len(step) > 1)
    assert all(list(free.input) == list(free.output) for step in steps for free in step[1:])
    return [" ".join(step[1].input) if len(step) > 1 else "" for step in steps]


def test_a_blob_is_freed_after_its_last_reader():
    operators = _operators("x w > a", "a > b", "a b > c", "c > loss")
    assert _freed(operators, ["loss"]) == ["", "", "a b", "c"]


def test_what_comes_from_outside_and_what_nobody_reads_stay():
    """Parameters that are updated in place, too, and states that a later step reads."""
    operators = _operators("x w > a unread", "a > g", "g w m > g m w", "state > new", "new > state")
    assert _freed(operators) == ["", "a", "g", "", "new"]


def test_an_operator_that_works_in_place_needs_the_value():
    operators = _operators("x > a", "a > a", "a > b", "b a > c", "c > d")
    assert lifetimes(operators) == [Lifetime("a", 0, 3), Lifetime("b", 2, 3), Lifetime("c", 3, 4)]


def test_a_blob_that_is_written_twice_is_freed_twice():
    """As those of MEMONGER, whose gradients take turns in one blob."""
    operators = _operators("x > m", "m > a", "a > m", "m > d", "d > e")
    assert _freed(operators) == ["", "m", "a", "m", "d"]


def test_only_the_last_value_of_a_kept_blob_stays():
    operators = _operators("x > m", "m > a", "a > m", "m > d", "d > e")
    assert _freed(operators, ["m", "d"]) == ["", "m", "a", "", ""]


def test_a_last_value_without_a_reader_leaves_the_one_before_it_to_be_freed():
    operators = _operators("x > m", "m > a", "a > m")
    assert _freed(operators, ["m"]) == ["", "m", "a"]


def test_what_gloo_sends_is_never_freed():
    """Its operators end a run in which the memory of their blobs has changed."""
    operators = _operators("x > a", "world a > a", "a > b", "x > a", "a b > loss", "loss > end")
    operators[1].engine = "GLOO"
    assert _freed(operators) == ["", "", "", "", "b", "loss"]

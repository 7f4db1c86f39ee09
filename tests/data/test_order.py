from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectron_ext.data.order import MinibatchOrder


def records(num_wide, num_tall):
    wide = [SimpleNamespace(width=4, height=3)] * num_wide
    return wide + [SimpleNamespace(width=3, height=4)] * num_tall


@given(
    num_wide=st.integers(0, 20),
    num_tall=st.integers(0, 20),
    batch_size=st.integers(1, 9),
    grouping=st.booleans(),
)
def test_every_image_comes_equally_often(num_wide, num_tall, batch_size, grouping):
    total = num_wide + num_tall
    if total == 0:
        return
    order = MinibatchOrder(records(num_wide, num_tall), batch_size, 0, grouping)
    # After this many minibatches each group has had batch_size whole epochs.
    seen = Counter()
    for iteration in range(total):
        indices = order.indices(iteration)
        assert len(indices) == batch_size
        if grouping:
            assert len({index < num_wide for index in indices}) == 1
        seen.update(indices)
    assert set(seen.values()) == {batch_size}
    assert len(seen) == total


def test_resuming_at_any_iteration_gives_the_same_minibatches():
    images = records(7, 4)
    whole = [MinibatchOrder(images, 3, 5, True).indices(i) for i in range(40)]
    order = MinibatchOrder(images, 3, 5, True)
    assert [order.indices(i) for i in reversed(range(40))] == whole[::-1]
    assert [MinibatchOrder(images, 3, 6, True).indices(i) for i in range(40)] != whole


def test_epochs_are_shuffled_differently():
    order = MinibatchOrder(records(30, 0), 30, 0, True)
    first, second = order.indices(0), order.indices(1)
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    assert first != sorted(first)


def test_one_image_fills_a_larger_minibatch():
    assert MinibatchOrder(records(1, 0), 4, 0, True).indices(9) == [0, 0, 0, 0]


@pytest.mark.parametrize("images, batch_size", [([], 2), (records(1, 0), 0)])
def test_no_images_or_an_empty_minibatch_is_refused(images, batch_size):
    with pytest.raises(ValueError, match="at least one"):
        MinibatchOrder(images, batch_size, 0, True)

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest

from detectron_ext.data.loader import MinibatchLoader
from detectron_ext.data.minibatch import image_blobs, load_samples
from detectron_ext.data.order import MinibatchOrder


def uneven(iteration):
    """Take longest for the first of every four, so that threads finish out of order."""
    time.sleep(0.008 if iteration % 4 == 0 else 0.0)
    return iteration


@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize("capacity", [1, 3, 64])
def test_iterations_come_in_order(num_threads, capacity):
    with MinibatchLoader(uneven, num_threads, capacity, start=5, stop=45) as loader:
        assert list(loader) == list(range(5, 45))
        with pytest.raises(StopIteration):
            loader.next()


def test_threads_do_not_change_the_minibatches(make_record, config):
    config.LIBRA.AUGMENTATION.COLOR_JITTER = 0.3
    config.LIBRA.AUGMENTATION.ROTATE90 = True
    records = [make_record(30 + n, 40 - n, number=n) for n in range(7)]
    order = MinibatchOrder(records, 2, 3, True)

    def make(iteration):
        rng = np.random.default_rng((3, iteration))
        samples = load_samples(records, order.indices(iteration), config, rng)
        return image_blobs(samples, config, True)

    runs = []
    for num_threads in (1, 4):
        with MinibatchLoader(make, num_threads, 4, 0, 12) as loader:
            runs.append(list(loader))
    for one, four in zip(*runs):
        np.testing.assert_array_equal(one["data"], four["data"])
        np.testing.assert_array_equal(one["im_info"], four["im_info"])


def test_threads_work_ahead_up_to_the_capacity():
    made = []
    with MinibatchLoader(lambda i: made.append(i) or i, 2, 3, 0) as loader:
        for count in (3, 4, 5):
            _wait_until(lambda: loader.queue_size == 3)
            assert sorted(made) == list(range(count))
            assert loader.next() == count - 3


def _wait_until(condition):
    """Wait without a time limit. If the loader never gets there, the test hangs."""
    while not condition():
        time.sleep(0.005)


@pytest.mark.parametrize("num_threads", [1, 4])
def test_an_exception_is_raised_at_its_own_iteration(num_threads):
    def make(iteration):
        if iteration == 3:
            raise KeyError("iteration 3")
        return iteration

    with MinibatchLoader(make, num_threads, 8, 0, 6) as loader:
        assert [loader.next() for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError, match="iteration 3"):
            loader.next()
        assert [loader.next() for _ in range(2)] == [4, 5]


def test_closing_ends_the_threads_and_a_waiting_next():
    release = threading.Event()
    loader = MinibatchLoader(lambda i: release.wait(), 2, 2)
    failures = []

    def wait():
        try:
            loader.next()
        except RuntimeError as error:
            failures.append(str(error))

    def release_once_closed():
        with loader._changed:
            loader._changed.wait_for(lambda: loader._closed)
        release.set()

    others = [threading.Thread(target=target) for target in (wait, release_once_closed)]
    for thread in others:
        thread.start()
    loader.close()
    loader.close()
    for thread in others:
        thread.join()
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("minibatch-") for name in names)
    assert failures == ["the minibatch loader is closed"]
    with pytest.raises(RuntimeError, match="closed"):
        loader.next()


def test_closing_ends_threads_that_wait_for_space_in_the_queue():
    loader = MinibatchLoader(lambda i: i, 4, 2)
    _wait_until(lambda: loader.queue_size == 2)
    loader.close()
    assert not any(thread.is_alive() for thread in loader._threads)


def test_all_consumers_reach_the_end():
    release = threading.Event()
    found = []
    with MinibatchLoader(lambda i: release.wait() and i, 1, 1, stop=1) as loader:
        waiting = threading.Semaphore(0)

        def take():
            waiting.release()
            found.extend(loader)

        threads = [threading.Thread(target=take, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
            waiting.acquire()
        release.set()
        for thread in threads:
            thread.join()
    assert found == [0]


def test_resuming_past_the_end_makes_nothing():
    with MinibatchLoader(uneven, 2, 2, start=9, stop=5) as loader:
        assert list(loader) == []


@pytest.mark.parametrize("num_threads, capacity", [(0, 1), (1, 0)])
def test_zero_threads_or_zero_capacity_is_refused(num_threads, capacity):
    with pytest.raises(ValueError, match="at least one"):
        MinibatchLoader(uneven, num_threads, capacity)


def test_200_starts_and_stops_lose_neither_minibatches_nor_threads():
    """With random numbers of threads, delays, ends in the middle, and makers that fail."""
    draws = random.Random(0)
    before = threading.active_count()
    for number in range(200):
        num_threads, capacity = draws.randint(1, 6), draws.randint(1, 8)
        start, length = draws.randint(0, 9), draws.randint(0, 12)
        delays = [draws.choice([0, 0, 1e-4, 2e-3]) for _ in range(length)]
        taken = length if draws.random() < 0.5 else draws.randint(0, length)
        broken = start + draws.randint(0, length) if draws.random() < 0.3 else -1

        def make(iteration, start=start, delays=delays, broken=broken):
            time.sleep(delays[iteration - start])
            if iteration == broken:
                raise KeyError(iteration)
            return iteration

        with MinibatchLoader(make, num_threads, capacity, start, start + length) as loader:
            for iteration in range(start, start + taken):
                if draws.random() < 0.2:
                    time.sleep(1e-3)
                if iteration == broken:
                    with pytest.raises(KeyError):
                        loader.next()
                else:
                    assert loader.next() == iteration, number
            if taken == length:
                with pytest.raises(StopIteration):
                    loader.next()
        assert threading.active_count() == before, number

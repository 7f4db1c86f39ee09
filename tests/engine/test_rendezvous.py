"""The folder in which the processes of a training meet: agreement, waiting, and who has ended."""

from __future__ import annotations

import os
import threading

import pytest

from detectron_ext.engine import rendezvous
from detectron_ext.engine.rendezvous import LostByInterruption, LostProcess, Rendezvous
from detectron_ext.errors import UserError


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(rendezvous, "_REASON_SECONDS", 0.3)
    monkeypatch.setattr(rendezvous, "_MOST_SECONDS", 5.0)


def _together(*functions) -> list:
    """Run functions at the same time; return for each its result, or the error that it raised."""
    results = [None] * len(functions)

    def run(index):
        try:
            results[index] = functions[index]()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


def _join(folder, number, settings=None, count=2, then=lambda found: None):
    def run():
        with Rendezvous(str(folder), count, number) as found:
            found.join(settings or {"RNG_SEED": "3"})
            return then(found)

    return run


def test_processes_wait_for_each_other_and_read_what_they_publish(tmp_path):
    def publish(found):
        found.publish("start", {"value": 7})
        return found.local_processes()

    def read(found):
        return found.wait_for("start", "read", [0])[0]["value"]

    assert _together(_join(tmp_path, 0, then=publish), _join(tmp_path, 1, then=read)) == [2, 7]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match="missing does not exist: make a new empty folder"):
        Rendezvous(str(tmp_path / "missing"), 2, 0).__enter__()


def test_a_folder_is_used_once(tmp_path):
    _together(_join(tmp_path, 0), _join(tmp_path, 1))
    with pytest.raises(UserError, match="was used by a process 1 before"):
        Rendezvous(str(tmp_path), 2, 1).__enter__()


def test_a_process_of_an_earlier_training_is_not_waited_for(tmp_path):
    with Rendezvous(str(tmp_path), 2, 1) as earlier:
        earlier.publish("about", {"process": 1, "host": "a", "processes": 2, "settings": {}})
    with pytest.raises(LostProcess, match="process 1 of 2 .* has ended: if it did so before"):
        _join(tmp_path, 0)()


def test_different_settings_are_named_in_every_process(tmp_path):
    errors = _together(_join(tmp_path, 0, {"RNG_SEED": "3"}), _join(tmp_path, 1, {"RNG_SEED": "4"}))
    message = "process 1 has RNG_SEED '4', and process 0 has '3': start all processes with the same"
    for error in errors:
        assert message in str(error)


def test_different_numbers_of_processes_are_named(tmp_path):
    first, second = _together(_join(tmp_path, 0), _join(tmp_path, 1, count=3))
    assert "process 1 has --num-shards 3, and process 0 has 2" in str(first)
    assert isinstance(second, UserError)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (UserError("the disk is\nfull"), LostProcess, "has ended: the disk is full"),
        (KeyboardInterrupt(), LostByInterruption, "has ended: KeyboardInterrupt"),
    ],
)
def test_the_reason_of_an_end_reaches_the_others(tmp_path, error, kind, text):
    def fail(found):
        raise error

    def wait(found):
        found.wait_for("start", "read")

    lost = _together(_join(tmp_path, 0, then=fail), _join(tmp_path, 1, then=wait))[1]
    assert (
        type(lost) is kind
        and f"process 0 of 2 ({os.getpid()} on" in str(lost)
        and text in str(lost)
    )


def test_a_process_that_lost_its_lock_was_killed(tmp_path):
    ended = threading.Event()

    def die(found):
        found._closing.close()  # as the system does when a process ends
        found.publish = lambda name, content: None
        ended.wait(10)

    def reason(found):
        try:
            return found.reason("Connection closed by peer")
        finally:
            ended.set()

    lost, _ = _together(_join(tmp_path, 0, then=reason), _join(tmp_path, 1, then=die))
    assert f"process 1 of 2 ({os.getpid()} on" in str(lost)
    assert "has ended without a message: was it killed" in str(lost)


def test_a_connection_that_breaks_without_a_reason_says_what_gloo_said(tmp_path):
    ended = threading.Event()

    def reason(found):
        try:
            return found.reason("no answer")
        finally:
            ended.set()

    lost, _ = _together(
        _join(tmp_path, 0, then=reason), _join(tmp_path, 1, then=lambda found: ended.wait(10))
    )
    assert str(lost) == "no answer"


def test_a_process_that_does_not_start_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(rendezvous, "_MOST_SECONDS", 0.2)
    with pytest.raises(UserError, match="processes 1, 2 of 3 did not start within 0 minutes"):
        _join(tmp_path, 0, count=3)()


@pytest.fixture
def two_processes(tmp_path):
    """Two processes in this thread; the first has joined and publishes and ends when asked."""
    first, second = (Rendezvous(str(tmp_path), 2, number) for number in range(2))
    with second:
        first.__enter__()
        about = {"process": os.getpid(), "host": "a", "processes": 2, "settings": {}}
        first.publish("about", about)
        yield first, second


def test_what_a_process_published_just_before_it_ended_is_read(two_processes, monkeypatch):
    """It does so between the two looks of the process that waits."""
    first, second = two_processes
    look = second._raise_if_ended

    def end_and_look(numbers):
        if not os.path.exists(os.path.join(first._own, "start.json")):
            first.publish("start", {"value": 7})
            first.__exit__(None, None, None)
        look(numbers)

    monkeypatch.setattr(second, "_raise_if_ended", end_and_look)
    assert second.wait_for("start", "start", [0]) == {0: {"value": 7}}


def test_a_process_that_ends_while_another_joins_is_no_lost_one(two_processes, monkeypatch):
    first, second = two_processes
    publish = second.publish

    def publish_and_end(name, content):
        publish(name, content)
        if name == "about":
            first.__exit__(None, None, None)

    monkeypatch.setattr(second, "publish", publish_and_end)
    second.join({})

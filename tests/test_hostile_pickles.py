"""Pickles that would run code, end the process or take memory that the file does not have."""

from __future__ import annotations

import pickle
import random
import struct
import tracemalloc

import numpy as np
import pytest

from detectron_ext.array_pickle import read_pickle, write_pickle
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import WeightsError

_FROM_BUFFER = b"cnumpy.core.numeric\n_frombuffer\n"
_DTYPE = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR"
_MOST_MEMORY = 64 << 20


def _text(length: int) -> bytes:
    return b"X" + struct.pack("<I", length) + b"a" * length


_NESTED = b")" + b"\x85" * 1_000_000
_CASES = {
    # numpy would make an array of as many bytes as the number says.
    "bytes of a number": _FROM_BUFFER + b"(I400000000\n" + _DTYPE + b"(I-1\ntS'C'\ntR.",
    "memo": b"}r" + struct.pack("<I", 150_000_000) + b".",
    "key of tuples in tuples": b"}" + _NESTED + b"K\x01s.",
    "keys at once": b"}(" + _NESTED + b"K\x01u.",
    "keys in a call": b"ccollections\nOrderedDict\n((" + _NESTED + b"K\x01t\x85tR.",
    "a set": b"\x80\x04\x8f(" + _NESTED + b"\x90.",
    "a frozen set": b"\x80\x04(" + _NESTED + b"\x91.",
    "longer than the file": b"B" + struct.pack("<I", 2_000_000_000) + b"a.",
    "array longer than the file": b"\x80\x05\x96" + struct.pack("<Q", 2_000_000_000) + b"a.",
    "array longer than its frame": b"\x80\x05\x95" + struct.pack("<Q", 20) + b"]\x96"
    + struct.pack("<Q", 2_000_000_000) + b"a" * 11 + b"a.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2_000_000_000) + b"N.",
    "calls on one text": b"(" + _text(1 << 20) + b"q\x000"
    + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 2000 + b"l.",
    "rows without elements": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\n"
    b"tR(I1\n(I1000000000\nI0\nt" + _DTYPE + b"I00\nS''\ntb.",
    "elements without bytes": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt"
    b"S'b'\ntR(I1\n(I1000000000\nt" + _DTYPE.replace(b"f4", b"S0") + b"I00\nS''\ntb.",
    "integer": b"\x8b" + struct.pack("<I", 5000) + b"\x01" * 5000 + b".",
    "instance": b"(icollections\nOrderedDict\n.",
    "extension": b"\x82\x01.",
    "attributes": b"(lN(S'a'\nI1\ndb.",
}  # fmt: skip


@pytest.mark.parametrize("case", _CASES)
def test_hostile_pickles_are_refused_without_their_memory(tmp_path, case):
    path = tmp_path / "w.pkl"
    path.write_bytes(_CASES[case])
    tracemalloc.start()
    try:
        message = _message_about(str(path))
        assert tracemalloc.get_traced_memory()[1] < _MOST_MEMORY
    finally:
        tracemalloc.stop()
    # These two are read: the first names a large number, the second is shorter than it says.
    assert (message == "") == (case in ("memo", "frame"))
    assert "\n" not in message and len(message) < 400


@pytest.mark.skipif(not hasattr(pickle, "PickleBuffer"), reason="protocol 5 needs Python 3.8")
def test_arrays_of_protocol_5_are_read(tmp_path):
    """Their bytes are in the opcode that the unpickler reads itself."""
    path, array = tmp_path / "w.pkl", np.arange(30_000, dtype=np.float32)
    path.write_bytes(pickle.dumps({"w": array}, protocol=5))
    assert b"\x96" in path.read_bytes()
    np.testing.assert_array_equal(read_pickle(str(path), "weights", WeightsError)["w"], array)


def _message_about(path: str) -> str:
    """Return the message about a file; "" if it is read."""
    try:
        read_pickle(path, "weights", WeightsError)
    except WeightsError as error:
        assert path in str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_array_under_many_names_is_not_copied_for_each(tmp_path, order):
    array = np.ones(250_000, order + "f4")
    path = str(tmp_path / "w.pkl")
    write_pickle(path, {"blobs": {f"blob{number}": array for number in range(1500)}})
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="1500 blobs take 1500000000 bytes"):
            read_weights(path)
        assert tracemalloc.get_traced_memory()[1] < _MOST_MEMORY
    finally:
        tracemalloc.stop()
    write_pickle(path, {"blobs": {"first": array, "second": array}})
    assert (read_weights(path).blobs["second"] == 1).all()


@pytest.mark.parametrize(
    "name",
    ["\udcff", "a\n", "", "a\0", "n" * 2000],
    ids=["half", "line break", "empty", "null", "long"],
)
def test_names_that_caffe2_does_not_take_are_refused(tmp_path, name):
    path = str(tmp_path / "w.pkl")
    with open(path, "wb") as file:
        pickle.dump({"blobs": {name: np.ones(1)}}, file)
    with pytest.raises(WeightsError, match="is not a named array") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.fixture
def written(tmp_path):
    """Return the path of a weights file, and its blobs."""
    blobs = {"w": np.arange(300, dtype=np.float32), "w_momentum": np.ones(30, np.float32)}
    path = tmp_path / "w.pkl"
    write_weights(str(path), Weights(blobs, "A: 1\n", ["__background__", "cell"]))
    return path, blobs


def test_every_flipped_bit_is_found(written):
    path, _ = written
    content = path.read_bytes()
    places = random.Random(1).sample(range(8 * len(content)), 300)
    places += range(8 * (len(content) - 80), 8 * len(content), 7)  # in the checksum itself
    for place in places:
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(bytes(damaged))
        with pytest.raises(WeightsError, match="damaged|refused") as caught:
            read_weights(str(path))
        assert "\n" not in str(caught.value)


def test_a_file_without_a_checksum_is_read(written):
    path, blobs = written
    content = path.read_bytes()
    end = content.index(b"\nsha256 ")
    path.write_bytes(content[:end])
    assert (read_weights(str(path)).blobs["w"] == blobs["w"]).all()
    path.write_bytes(content[:end] + b"more")
    with pytest.raises(WeightsError, match="something after its end"):
        read_weights(str(path))


def test_other_programs_read_a_file_with_a_checksum(written):
    path, blobs = written
    with open(path, "rb") as file:
        content = pickle.load(file, encoding="latin1")
    assert (content["blobs"]["w"] == blobs["w"]).all() and content["cfg"] == "A: 1\n"


def test_a_file_larger_than_the_limit_is_not_read(written, monkeypatch):
    monkeypatch.setattr("detectron_ext.array_pickle.MAX_PICKLE_BYTES", 100)
    with pytest.raises(WeightsError, match="more than the 100 that are read"):
        read_weights(str(written[0]))

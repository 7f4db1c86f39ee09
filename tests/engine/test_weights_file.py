from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from caffe2.python import workspace

from detectron_ext.array_pickle import read_pickle, write_pickle
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import UserError, WeightsError

_BLOBS = {"conv1_w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.float32(2)}


def _write(path, content, protocol=2):
    with open(path, "wb") as file:
        pickle.dump(content, file, protocol=protocol)
    return str(path)


def test_weights_are_read_as_they_were_written(tmp_path):
    path = str(tmp_path / "w.pkl")
    write_weights(path, Weights(_BLOBS, "A: 1\n", ["__background__", "cell"], num_processes=2))
    blobs, cfg, classes, data, processes = read_weights(path)
    assert (cfg, classes, data, processes) == ("A: 1\n", ["__background__", "cell"], None, 2)
    np.testing.assert_array_equal(blobs["conv1_w"], _BLOBS["conv1_w"])
    assert os.listdir(tmp_path) == ["w.pkl"]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "?"])
@pytest.mark.parametrize("shape", [(0, 4), (0,), (3, 0)])
def test_empty_arrays_survive(tmp_path, dtype, shape):
    path = str(tmp_path / "empty.pkl")
    write_pickle(path, [np.zeros(shape, dtype), b""])
    array, text = read_pickle(path, "proposals", UserError)
    assert array.shape == shape and array.dtype == dtype and text == b""
    assert (np.concatenate((array, np.ones(shape, dtype))) == 1).all()


@pytest.mark.parametrize("protocol", range(6 if hasattr(pickle, "PickleBuffer") else 5))
@pytest.mark.parametrize("wrapped", [True, False])
def test_both_layouts_and_every_protocol_are_read(tmp_path, protocol, wrapped):
    content = {"blobs": _BLOBS} if wrapped else dict(_BLOBS)
    weights = read_weights(_write(tmp_path / "w.pkl", content, protocol))
    assert set(weights.blobs) == set(_BLOBS)
    assert weights.cfg is None and weights.classes is None


def test_python_2_pickles_are_read(tmp_path):
    """Python 2 wrote byte strings for names and for the data of arrays."""
    data = np.array([1.5, -2], dtype="<f4").tobytes()
    text = (
        b"\x80\x02}q\x00U\x07conv1_wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\n"
        b"ndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02f4K\x00K"
        b"\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + data
        + b"tbs."
    )
    path = tmp_path / "w.pkl"
    path.write_bytes(text)
    np.testing.assert_array_equal(read_weights(str(path)).blobs["conv1_w"], [1.5, -2])


class _Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_code_is_refused_and_not_run(tmp_path):
    marker = str(tmp_path / "made")
    path = _write(tmp_path / "w.pkl", {"blobs": {"a": _Payload(marker)}})
    with pytest.raises(WeightsError, match="mkdir") as caught:
        read_weights(path)
    assert not os.path.exists(marker)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, fault",
    [
        ({"blobs": {"a": np.array([None, {}], dtype=object)}}, "type O8"),
        ({"blobs": {"a": np.zeros(1, [("x", "f4")])}}, "type V4"),
        ({"blobs": {"a": "text"}}, "'a'"),
        ([1, 2], "list"),
        ({"blobs": [1]}, "dictionary"),
    ],
)
def test_anything_but_numbers_is_refused(tmp_path, content, fault):
    with pytest.raises(WeightsError, match=fault):
        read_weights(_write(tmp_path / "w.pkl", content))


@pytest.mark.parametrize(
    "dtype", ["f2", "f4", ">f4", "f8", "i1", ">i2", "i4", "i8", "u1", "u2", "?"]
)
def test_types_that_caffe2_takes_are_read_in_this_machines_byte_order(tmp_path, dtype):
    path = _write(tmp_path / "w.pkl", {"blobs": {"a": np.arange(2).astype(dtype)}})
    blob = read_weights(path).blobs["a"]
    workspace.FeedBlob("a", blob)
    np.testing.assert_array_equal(workspace.FetchBlob("a"), [0, 1])
    assert blob.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize("dtype", ["u4", "u8"])
def test_types_that_caffe2_does_not_take_are_named(tmp_path, dtype):
    path = _write(tmp_path / "w.pkl", {"blobs": {"a": np.zeros(2, dtype)}})
    with pytest.raises(WeightsError, match=f"blob a has type {np.dtype(dtype)}, which Caffe2"):
        read_weights(path)


def test_truncated_empty_and_missing_files_are_named(tmp_path):
    _write(tmp_path / "w.pkl", {"blobs": _BLOBS})
    whole = (tmp_path / "w.pkl").read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "cut.pkl"
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match="cut.pkl") as caught:
            read_weights(str(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="none.pkl"):
        read_weights(str(tmp_path / "none.pkl"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="file"):
        write_weights(str(blocked / "w.pkl"), Weights(_BLOBS, "", None))


# A one-element float array in protocol 0, in parts that a test may exchange.
_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
_FLOAT = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
_BYTES = b"S'" + b"A" * 8 + b"'"


def _crafted(path, array):
    path.write_bytes(b"(S'a'\n" + array + b"d.")
    return str(path)


def test_the_valid_form_of_the_crafted_pickles_is_read(tmp_path):
    array = _RECONSTRUCT + b"(I1\n(I1\nt" + _FLOAT + b"I00\n" + _BYTES + b"\ntb"
    blob = read_weights(_crafted(tmp_path / "w.pkl", array)).blobs["a"]
    assert blob.tobytes() == b"A" * 8


@pytest.mark.parametrize(
    "array, fault",
    [
        # Elements that are objects, although the type says numbers.
        (_RECONSTRUCT + b"(I1\n(I1\nt" + _FLOAT + b"I00\n(lI1\natb", "not bytes"),
        # Bytes that numpy would take for addresses of objects.
        (_RECONSTRUCT + b"(I1\n(I1\nt" + _FLOAT.replace(b"f8", b"O8") + b"I00\n" + _BYTES
         + b"\ntb", "type O8"),
        # An array over another array's memory, with strides of its own.
        (b"cnumpy\nndarray\n((I1\nt" + _FLOAT + _BYTES + b"\nI0\n(I800\nttR", "damaged"),
        # More elements than bytes.
        (_RECONSTRUCT + b"(I1\n(I9\nt" + _FLOAT + b"I00\n" + _BYTES + b"\ntb", "damaged"),
        (b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR", "rot13"),
        (b"c__builtin__\nbytes\n(I1\ntR", "calls bytes"),
        (b"cbuiltins\neval\n(S'1'\ntR", "builtins.eval"),
    ],
)  # fmt: skip
def test_crafted_arrays_are_refused(tmp_path, array, fault):
    with pytest.raises(WeightsError, match=fault) as caught:
        read_weights(_crafted(tmp_path / "w.pkl", array))
    assert "\n" not in str(caught.value)


def test_momenta_and_the_stored_configuration_are_kept(tmp_path):
    blobs = {"w": np.ones(3, np.float32), "w_momentum": np.full(3, 2, np.float32)}
    path = str(tmp_path / "w.pkl")
    write_weights(path, Weights(blobs, None, None))
    with open(path, "rb") as file:
        assert pickle.load(file).keys() == {"blobs"}
    np.testing.assert_array_equal(read_weights(path).blobs["w_momentum"], [2, 2, 2])

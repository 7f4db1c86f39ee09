"""Checkpoints are read without PyTorch and without trusting them."""

from __future__ import annotations

import collections
import io
import os
import pickle
import pickletools
import sys
import tracemalloc
import types
import zipfile

import numpy as np
import pytest
import torch

from detectron_ext.conversion.torch_checkpoint import read_checkpoint
from detectron_ext.errors import WeightsError

_FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def _save(path, content, zipped=True):
    torch.save(content, str(path), _use_new_zipfile_serialization=zipped)
    return str(path)


def _state():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "whole": base,
        "view": base[1:3, ::2],
        "transposed": base.t(),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "half": torch.tensor([0.5, -2.0]).half(),
        "double": torch.tensor([1e-300], dtype=torch.float64),
        "bool": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    ordered = collections.OrderedDict(state)
    ordered._metadata = {"": {"version": 1}}  # as a module's state_dict has it
    return ordered


@_FORMATS
@pytest.mark.parametrize("wrapped", [True, False])
def test_tensors_are_read_as_they_were_saved(tmp_path, zipped, wrapped):
    state = _state()
    content = {"state_dict": state, "meta": {"epoch": 3}} if wrapped else state
    tensors, meta = read_checkpoint(_save(tmp_path / "c.pth", content, zipped))
    assert meta == ({"epoch": 3} if wrapped else {})
    assert tensors.keys() == state.keys()
    for name, tensor in state.items():
        expected = tensor.detach().numpy()
        np.testing.assert_array_equal(tensors[name], expected)
        assert tensors[name].dtype == expected.dtype


@_FORMATS
def test_objects_of_a_training_loop_are_ignored(tmp_path, monkeypatch, zipped):
    """Optimizer state, numpy numbers, and objects of mmengine that refer to its functions."""
    module = types.ModuleType("mmengine.logging")
    source = (
        "class Buffer:\n    def mean(self): pass\n    def __init__(self): self.f = Buffer.mean\n"
        "class ConfigDict(dict): pass\nclass Losses(list): pass\n"
    )
    exec(source, module.__dict__)
    for kind in (module.Buffer, module.ConfigDict, module.Losses):
        kind.__module__ = module.__name__
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, module)
    content = {
        "state_dict": {"w": torch.ones(3)},
        "optimizer": {"state": {0: {"step": 5, "momentum": torch.zeros(3)}}, "lr": np.float64(0.1)},
        "message_hub": {"loss": module.Buffer(), "history": np.zeros(4), "names": {"a"}},
        "meta": {"size": torch.Size([1, 2]), "config": module.ConfigDict(a=1)},
        "losses": [module.Losses([1]), module.Losses([1, 2])],
    }
    path = _save(tmp_path / "c.pth", content, zipped)
    monkeypatch.undo()
    assert read_checkpoint(path).tensors.keys() == {"w"}


class _Command:
    def __init__(self, *reduced):
        self._reduced = reduced

    def __reduce__(self):
        return self._reduced


@_FORMATS
@pytest.mark.parametrize("place", ["state_dict", "meta"])
def test_code_is_refused_and_not_run(tmp_path, zipped, place):
    marker = str(tmp_path / "made")
    content = {"state_dict": {"w": torch.ones(1)}}
    content.setdefault(place, {})["x"] = _Command(os.mkdir, (marker,))
    path = _save(tmp_path / "c.pth", content, zipped)
    with pytest.raises(WeightsError, match="names posix.mkdir; only tensors are read") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not os.path.exists(marker)


def test_attributes_of_other_objects_are_refused(tmp_path):
    content = {"w": torch.ones(1), "x": _Command(getattr, (collections.OrderedDict, "clear"))}
    with pytest.raises(WeightsError, match="attribute 'clear'"):
        read_checkpoint(_save(tmp_path / "c.pth", content))


@_FORMATS
def test_truncated_files_are_named(tmp_path, zipped):
    path = _save(tmp_path / "c.pth", {"state_dict": _state()}, zipped)
    with open(path, "rb") as file:
        whole = file.read()
    for cut in (0, 1, 30, len(whole) // 2, len(whole) - 8):
        (tmp_path / "cut.pth").write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match="cut.pth") as caught:
            read_checkpoint(str(tmp_path / "cut.pth"))
        assert "\n" not in str(caught.value)


def _rewritten(path, change):
    """A zip checkpoint whose pickle's bytes are changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name.endswith("data.pkl") else data)
    with open(path, "wb") as file:
        file.write(out.getvalue())


@pytest.mark.parametrize(
    "old, new, fault",
    [
        # Shape (2, 3) of six numbers becomes (2, 120), its offset 0 becomes 90, a stride 255.
        (b"K\x02K\x03\x86", b"K\x02K\x78\x86", "past its storage"),
        (b"K\x00K\x02K\x03\x86", b"K\x5aK\x02K\x03\x86", "past its storage"),
        (b"K\x03K\x01\x86", b"K\xffK\x01\x86", "past its storage"),
        # A stride of zero asks for more numbers than there are.
        (b"K\x02K\x03\x86", b"K\x02K\x04\x86", "past its storage"),
    ],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, old, new, fault):
    path = _save(tmp_path / "c.pth", {"w": torch.arange(6.0).reshape(2, 3)})

    def change(data):
        data = pickletools.optimize(data)  # the marks that it does not come back to stand between
        assert old in data
        return data.replace(old, new)

    _rewritten(path, change)
    with pytest.raises(WeightsError, match=fault):
        read_checkpoint(path)


def test_storages_of_a_wrong_size_are_refused(tmp_path):
    path = _save(tmp_path / "c.pth", {"w": torch.arange(6.0)})
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data[:-4] if "/data/" in name else data)
    (tmp_path / "short.pth").write_bytes(out.getvalue())
    with pytest.raises(WeightsError, match="20 bytes for 6"):
        read_checkpoint(str(tmp_path / "short.pth"))


@pytest.mark.parametrize("content", [[1], {}, {"state_dict": [1]}, {"epoch": 1}], ids=str)
def test_files_without_named_tensors_are_refused(tmp_path, content):
    with pytest.raises(WeightsError, match="c.pth"):
        read_checkpoint(_save(tmp_path / "c.pth", content))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"w": np.ones(1)}, protocol=2))
    with pytest.raises(WeightsError, match="does not begin like a checkpoint"):
        read_checkpoint(str(tmp_path / "w.pkl"))
    with zipfile.ZipFile(str(tmp_path / "z.zip"), "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(WeightsError, match="0 data.pkl"):
        read_checkpoint(str(tmp_path / "z.zip"))
    with pytest.raises(WeightsError, match="none.pth"):
        read_checkpoint(str(tmp_path / "none.pth"))


def _peak_and_message(path) -> tuple:
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            read_checkpoint(str(path))
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()


def test_many_views_of_one_storage_are_refused_without_their_memory(tmp_path):
    tensor = torch.ones(250_000)
    path = tmp_path / "c.pth"
    torch.save({f"t{number}": tensor for number in range(1500)}, str(path))
    peak, message = _peak_and_message(path)
    assert "1500 tensors take 1500000000 bytes" in message and peak < 64 << 20
    torch.save({f"t{number}": tensor for number in range(3)}, str(path))
    assert len(read_checkpoint(str(path)).tensors) == 3


@pytest.mark.parametrize("name", ["byteorder", "data.pkl"])
def test_an_archive_that_expands_is_refused_without_its_memory(tmp_path, name):
    path = tmp_path / "c.pth"
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in {"byteorder", "data.pkl"} - {name}:
            archive.writestr("c/" + entry, b"little")
        archive.writestr("c/" + name, bytes(200 << 20))
    peak, message = _peak_and_message(path)
    assert name in message and peak < 64 << 20


def test_a_set_of_tuples_in_tuples_is_refused(tmp_path):
    path = tmp_path / "c.pth"
    text = b"\x80\x02cbuiltins\nset\n]" + b")" + b"\x85" * 1_000_000 + b"a\x85R."
    with zipfile.ZipFile(str(path), "w") as archive:
        archive.writestr("c/data.pkl", text)
    assert "as a key" in _peak_and_message(path)[1]

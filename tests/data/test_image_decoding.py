"""The pixels of every kind of image file, and files that end too early.

The files are made and read by Pillow where it can; OpenCV is what the package decodes with.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from detectron_ext.config.keys import KEYS
from detectron_ext.data import image_decoding, transforms
from detectron_ext.data.image_decoding import DEEP_MODES, decode
from detectron_ext.data.minibatch import load_samples
from detectron_ext.errors import DatasetError

_RNG = np.random.default_rng(0)
_RGB = _RNG.integers(0, 256, (12, 16, 3)).astype(np.uint8)
_GREY = _RGB[..., 0]
_ALPHA = _RNG.integers(0, 256, (12, 16)).astype(np.uint8)
_MODES = {
    "1": Image.fromarray(_GREY > 127),
    "L": Image.fromarray(_GREY),
    "LA": Image.merge("LA", (Image.fromarray(_GREY), Image.fromarray(_ALPHA))),
    "P": Image.fromarray(_RGB).quantize(16),
    "RGB": Image.fromarray(_RGB),
    "RGBA": Image.fromarray(np.dstack((_RGB, _ALPHA))),
    "CMYK": Image.fromarray(_RGB).convert("CMYK"),
}


def saved(mode, kind, **options):
    stream = io.BytesIO()
    _MODES[mode].save(stream, kind, **options)
    return np.frombuffer(stream.getvalue(), np.uint8)


def as_bgr(mode):
    return np.asarray(_MODES[mode].convert("RGB"))[..., ::-1]


@pytest.mark.parametrize(
    "mode, kind, options",
    [
        *(
            (mode, kind, {})
            for kind, modes in {
                "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
                "TIFF": ("1", "L", "LA", "P", "RGB", "CMYK"),
                "BMP": ("1", "L", "P", "RGB", "RGBA"),
                "PPM": ("1", "L", "RGB"),
                "JPEG2000": ("L", "LA", "RGB", "RGBA"),
            }.items()
            for mode in modes
        ),
        ("P", "PNG", {"bits": 4}),
        ("1", "TIFF", {"compression": "group4"}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGBA", "WEBP", {"lossless": True}),
    ],
)
def test_every_channel_count_gives_the_colours_that_pillow_reads(mode, kind, options):
    image = decode(saved(mode, kind, **options))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, as_bgr(mode))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_give_the_colours_that_pillow_reads(mode, progressive):
    encoded = saved(mode, "JPEG", quality=95, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(encoded.tobytes())).convert("RGB"))[..., ::-1]
    np.testing.assert_allclose(decode(encoded).astype(int), expected, atol=3)


def test_a_tiff_is_multiplied_by_its_alpha():
    expected = as_bgr("RGB") * (_ALPHA[..., None] / 255)
    np.testing.assert_allclose(decode(saved("RGBA", "TIFF")), expected, atol=1)


@pytest.mark.parametrize("greatest", [1, 15, 254])
@pytest.mark.parametrize(
    "header", ["P5 {w} {h} {m}\n", "P5\n# made up\n{w} {h}\n# more\n{m}\n"]
)  # fmt: skip
def test_the_greatest_value_of_a_pgm_is_white(greatest, header):
    values = _RNG.integers(0, greatest + 1, (12, 16)).astype(np.uint8)
    head = header.format(w=16, h=12, m=greatest).encode()
    image = decode(np.frombuffer(head + values.tobytes(), np.uint8))
    np.testing.assert_array_equal(image[..., 0], np.rint(values * (255 / greatest)))


# Values of more than 8 bits. Each is made twice: as grey and, where the format has it, in colours.
_DEEP = np.linspace(100, 4000, 48 * 64).astype(np.uint16).reshape(48, 64)
_COLOURS = np.stack((_DEEP, _DEEP[::-1], _DEEP[:, ::-1]), axis=2)


def _deep_files():
    for extension in (".png", ".tif", ".jp2", ".pgm"):
        yield f"grey{extension}", cv2.imencode(extension, _DEEP)[1].ravel(), _DEEP
    for extension in (".png", ".tif", ".jp2", ".ppm"):
        yield f"colour{extension}", cv2.imencode(extension, _COLOURS)[1].ravel(), _COLOURS
    for dtype in (np.float32, np.float64):
        for name, values in (("grey", _DEEP), ("colour", _COLOURS)):
            pixels = (values / 4000).astype(dtype)
            raw = [cv2.IMWRITE_TIFF_COMPRESSION, 1]  # OpenCV's own choice for them loses digits
            yield f"{name} {dtype.__name__}", cv2.imencode(".tif", pixels, raw)[1].ravel(), pixels
    pixels = (_COLOURS / 4000).astype(np.float32)
    yield "pfm", cv2.imencode(".pfm", pixels)[1].ravel(), pixels
    grey = io.BytesIO()
    Image.fromarray(_DEEP.astype(np.int32)).save(grey, "TIFF")
    yield "grey int32", np.frombuffer(grey.getvalue(), np.uint8), _DEEP.astype(np.int32)


_FILES = {name: (encoded, values) for name, encoded, values in _deep_files()}


@pytest.mark.parametrize("name", _FILES)
def test_more_than_8_bits_are_refused_with_the_key(name):
    with pytest.raises(DatasetError) as raised:
        decode(_FILES[name][0])
    assert "set LIBRA.DATA.DEEP_IMAGES to stretch" in str(raised.value)
    assert "has pixels of type" in str(raised.value)


@pytest.mark.parametrize("name", _FILES)
def test_more_than_8_bits_are_stretched_from_the_least_to_the_greatest(name):
    encoded, values = _FILES[name]
    image = decode(encoded, deep="stretch")
    low, high = float(values.min()), float(values.max())
    expected = np.rint((values.astype(np.float64) - low) * 255 / (high - low))
    if expected.ndim == 2:
        expected = np.stack((expected,) * 3, axis=2)
    assert image.dtype == np.uint8 and image.min() == 0 and image.max() == 255
    np.testing.assert_allclose(image, expected, atol=1)


@pytest.mark.parametrize("name", _FILES)
def test_more_than_8_bits_are_scaled_by_the_range_of_their_type(name):
    encoded, values = _FILES[name]
    image = decode(encoded, deep="scale")
    integers = np.issubdtype(values.dtype, np.integer)
    greatest = np.iinfo(values.dtype).max if integers else 1.0
    expected = np.rint(values.astype(np.float64) * 255 / greatest)
    np.testing.assert_allclose(image[..., 0], expected if expected.ndim == 2 else expected[..., 0])


def test_numbers_that_are_not_finite_become_black():
    pixels = np.ones((4, 4), np.float32)
    pixels[0, :3] = np.nan, np.inf, 0.5
    image = decode(cv2.imencode(".tif", pixels)[1].ravel(), deep="stretch")
    assert image[0, :, 0].tolist() == [0, 0, 0, 255]
    flat = decode(cv2.imencode(".tif", np.full((4, 4), np.nan, np.float32))[1].ravel(),
                  deep="stretch")  # fmt: skip
    assert (flat == 0).all()


def test_stretching_is_said_once(caplog, monkeypatch):
    monkeypatch.setattr(image_decoding, "_said_stretched", image_decoding.threading.Lock())
    for _ in range(2):
        decode(_FILES["grey.png"][0], deep="stretch")
    (record,) = caplog.records
    assert "pixels of type uint16 from 100 to 4000; 100 to 4000 becomes 0 to 255" in (
        record.getMessage()
    )


def test_the_key_knows_the_modes():
    assert KEYS["LIBRA.DATA.DEEP_IMAGES"].choices == DEEP_MODES


# Files that end too early. A smooth picture, of which half is still most of the information.
_SMOOTH = cv2.GaussianBlur(_RNG.integers(0, 256, (120, 160, 3)).astype(np.uint8), (0, 0), 3)


def _whole_files():
    for extension in (".jpg", ".png", ".webp", ".tif", ".jp2", ".bmp", ".ppm", ".pam", ".ras"):
        yield extension, cv2.imencode(extension, _SMOOTH)[1].ravel()
    yield ".pbm", cv2.imencode(".pbm", _SMOOTH[..., 0])[1].ravel()
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    yield "progressive", cv2.imencode(".jpg", _SMOOTH, options)[1].ravel()
    options = [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    yield "restart markers", cv2.imencode(".jpg", _SMOOTH, options)[1].ravel()
    yield "thumbnail", _with_thumbnail(cv2.imencode(".jpg", _SMOOTH)[1].tobytes())
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        stream = io.BytesIO()
        Image.fromarray(_SMOOTH).save(stream, "TIFF", compression=compression)
        yield f"tiff {compression}", np.frombuffer(stream.getvalue(), np.uint8)


def _with_thumbnail(jpeg):
    """Put a segment with a whole small JPEG, end marker included, before the picture."""
    small = cv2.imencode(".jpg", _SMOOTH[:16, :16])[1].tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    return np.frombuffer(jpeg[:2] + segment + jpeg[2:], np.uint8)


_WHOLE = dict(_whole_files())


@pytest.mark.parametrize("name", _WHOLE)
def test_a_file_that_ends_too_early_is_unreadable(name):
    encoded = _WHOLE[name]
    assert decode(encoded).shape == (120, 160, 3)
    for part in (0.2, 0.5, 0.9, 0.99):
        with pytest.raises(DatasetError, match="truncated|cannot|not an image"):
            decode(encoded[: int(len(encoded) * part)])


def test_what_follows_the_image_does_no_harm():
    encoded = np.concatenate((_WHOLE[".jpg"], np.full(100, 0xFF, np.uint8), _WHOLE[".jpg"][:50]))
    np.testing.assert_array_equal(decode(encoded), decode(_WHOLE[".jpg"]))


def test_a_truncated_jpeg_is_named_and_can_be_skipped(make_record, config, tmp_path):
    path = tmp_path / "half.jpg"
    path.write_bytes(_WHOLE[".jpg"][: len(_WHOLE[".jpg"]) // 2].tobytes())
    broken = replace(make_record(), path=str(path), height=120, width=160)
    with pytest.raises(DatasetError, match=r"half\.jpg is truncated"):
        transforms.read_image(broken)
    rng = np.random.default_rng(0)
    with pytest.raises(DatasetError, match="LIBRA.DATA.SKIP_BAD_IMAGES"):
        load_samples([broken, make_record()], [0], config, rng)
    config.LIBRA.DATA.SKIP_BAD_IMAGES = True
    (sample,) = load_samples([broken, make_record()], [0], config, rng)
    assert sample.record.height == 30

"""The one image reader: depth, orientation, what is no image, what is too large."""

import os
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.device import MEGAPIXELS_VARIABLE
from edgeprune.base.errors import InputError
from edgeprune.data import image as module
from edgeprune.data.image import FORMATS, is_image, read_image
from edgeprune.runtime.cameras import open_source

ORIENTATION = 274  # TIFF and EXIF tag
RED, BLUE = (250, 0, 0), (0, 0, 250)


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_said", set())


def ramp(count: int) -> np.ndarray:
    """From nothing to everything, (2, count)."""
    return np.linspace(0, 1, count)[None].repeat(2, 0)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm"])
def test_16_bits_are_scaled_by_their_depth(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    levels_HW = np.round(ramp(256) * 65535).astype(np.uint16)
    path = tmp_path / f"thermal{suffix}"
    if suffix == ".ppm":
        path.write_bytes(b"P5 256 2 65535\n" + levels_HW.astype(">u2").tobytes())
    else:
        Image.fromarray(levels_HW).save(path)
    image_HW3 = read_image(path)
    assert image_HW3.dtype == np.uint8
    np.testing.assert_array_equal(image_HW3, np.arange(256, dtype=np.uint8)[None, :, None].repeat(2, 0).repeat(3, 2))
    read_image(path)
    assert [record.message for record in caplog.records] == [
        f"{path}: 16-bit grey, its levels 0 to 65535; scaled from 0-65535 to 0-255, and every such image alike"
    ]


def test_a_dark_16_bit_image_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 257 * 9, np.uint16)).save(tmp_path / "dark.png")
    assert (read_image(tmp_path / "dark.png") == 9).all()


def test_12_bits_of_a_tiff_are_scaled_by_12(tmp_path: Path) -> None:
    """Two pixels of 12 bits in three bytes, a TIFF by hand: 4095 and 2048."""
    # width, height, bits, no compression, black is zero, strip's offset, samples, rows and bytes of a strip
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    content = b"II*\0" + struct.pack("<I", 12) + bytes([0xFF, 0xF8, 0x00, 0]) + directory
    (tmp_path / "twelve.tif").write_bytes(content)
    assert read_image(tmp_path / "twelve.tif")[0, :, 0].tolist() == [255, 128]


def test_floating_point_is_scaled_by_its_range(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read(levels_HW: np.ndarray) -> list[int]:
        Image.fromarray(levels_HW.astype(np.float32)).save(tmp_path / "float.tiff")
        return [int(level) for level in read_image(tmp_path / "float.tiff")[0, :, 1]]

    assert read(np.array([[0.0, 0.5, 0.75]])) == [0, 128, 191]  # of 0 to 1, whatever occurs
    assert read(np.array([[-10.0, 0.0, 30.0]])) == [0, 64, 255]
    assert read(np.array([[np.nan, 2.0, np.inf, 4.0]])) == [0, 0, 255, 255]
    assert read(np.full((1, 2), 7.0)) == [0, 0]
    assert [record.message.split("; ")[0].split(": ")[1] for record in caplog.records] == [
        "floating-point grey",
        "grey levels from -10 to 30, of no fixed depth",
    ]
    with pytest.raises(InputError, match="none of its levels is a finite number"):
        read(np.full((1, 2), np.nan))


def test_32_bit_integers_are_scaled_by_their_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1000, 1500, 2000]], np.int32)).save(tmp_path / "depth.tiff")
    assert read_image(tmp_path / "depth.tiff")[0, :, 2].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("1", ".png"), ("L", ".bmp"), ("LA", ".png"), ("P", ".png"), ("RGBA", ".webp"), ("CMYK", ".jpg")],
)
def test_other_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    white = Image.new("RGB", (16, 16), (255, 255, 255)).convert(mode)
    white.save(tmp_path / f"x{suffix}", lossless=True)  # which WebP takes, and the others leave
    assert (read_image(tmp_path / f"x{suffix}") >= 254).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Upright there is a red square in the top left corner of a wide blue picture; EXIF 2.3 says how each is stored."""
    upright_HW3 = np.full((32, 64, 3), BLUE, np.uint8)
    upright_HW3[:16, :16] = RED
    stored_HW3 = {
        1: upright_HW3,
        2: upright_HW3[:, ::-1],
        3: upright_HW3[::-1, ::-1],
        4: upright_HW3[::-1],
        5: upright_HW3.transpose(1, 0, 2),
        6: np.rot90(upright_HW3, 1),
        7: upright_HW3.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright_HW3, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(stored_HW3)).save(tmp_path / f"x{suffix}", exif=exif)
    image_HW3 = read_image(tmp_path / f"x{suffix}").astype(int)
    assert image_HW3.shape == (32, 64, 3)
    assert abs(image_HW3 - upright_HW3).mean() < 12  # JPEG blurs the colours' edge


def test_a_format_goes_by_content_and_none_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "bin" / "gs"
    trap.parent.mkdir()
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    trap.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(trap.parent), prepend=os.pathsep)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n"
    for name in ("x.png", "x.jpg", "x.tif"):
        (tmp_path / name).write_bytes(eps)
        with pytest.raises(
            InputError, match="can't be read: its content, whatever its name, is no JPEG, PNG, .* or PPM"
        ):
            read_image(tmp_path / name)
        with pytest.raises(InputError, match="is no JPEG"):
            next(open_source(str(tmp_path / name)))
    assert not (tmp_path / "started").exists()
    assert not {"EPS", "GIF", "PDF", "WMF"} & FORMATS.keys()
    Image.new("RGB", (4, 2), RED).save(tmp_path / "y.bin", "PNG")
    (tmp_path / "y.bin").rename(tmp_path / "y.jpg")
    assert (read_image(tmp_path / "y.jpg") == RED).all()


def test_an_image_of_another_name_is_no_video(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (32, 16)).save(tmp_path / "photo.jpg_large", "JPEG", exif=exif)
    frame = next(open_source(str(tmp_path / "photo.jpg_large")))
    assert frame.name == "photo.jpg_large"  # a video's frames have none
    assert frame.image_HW3.shape == (32, 16, 3)
    os.mkfifo(tmp_path / "pipe")
    assert not is_image(tmp_path / "pipe") and not is_image(tmp_path / "gone")


def png_header(width: int, height: int) -> bytes:
    """A PNG that says its size and then ends."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def test_megapixels_are_counted_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "x.png"
    idat = b"IDAT" + zlib.compress(b"")
    path.write_bytes(
        png_header(8001, 8000) + struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    )
    with pytest.raises(
        InputError, match=r"8001x8000, 64\.0 megapixels; at most 64 are read: .*EDGEPRUNE_MEGAPIXELS=65"
    ):
        read_image(path)
    monkeypatch.setenv(MEGAPIXELS_VARIABLE, "65")
    with pytest.raises(InputError, match="can't be read"):  # it is let through, and there is nothing in it
        read_image(path)
    path.write_bytes(
        png_header(60_000, 60_000) + struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    )
    with pytest.raises(InputError, match="3600.0 megapixels; at most 65 are read"):
        read_image(path)
    path.write_bytes(
        png_header(200_000, 200_000) + struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    )
    with pytest.raises(
        InputError, match="40000.0 megapixels; at most 65 are read: make it smaller$"
    ):  # no variable helps
        read_image(path)
    for told in ("many", "0", "-3", "nan", "inf", "1e300"):
        monkeypatch.setenv(MEGAPIXELS_VARIABLE, told)
        with pytest.raises(InputError, match=f"EDGEPRUNE_MEGAPIXELS is '{told}'; expected megapixels up to 10000"):
            read_image(path)
    assert not recwarn.list and Image.MAX_IMAGE_PIXELS is not None


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(InputError, match="x.png is no regular file; leave it out"):
        read_image(tmp_path / "x.png")


SAYS_WHY = """
import sys
from pathlib import Path
from edgeprune.data.image import read_image
from edgeprune.base.errors import InputError
for name in sys.argv[1:]:
    try:
        read_image(Path(name))
    except InputError as error:
        print(error)
"""


def test_what_pillow_thinks_of_damaged_metadata_is_not_printed(tmp_path: Path) -> None:
    """What is raised is all: a TIFF whose compression lies beyond its end (warned of), one of 203 samples a pixel (logged), one
    whose LZW is none (printed by libtiff itself)."""
    Image.new("RGB", (4, 2)).save(tmp_path / "x.tif")
    whole = (tmp_path / "x.tif").read_bytes()
    for tag, count in ((259, 60_000), (277, 1)):
        at = whole.index(struct.pack("<HHI", tag, 3, 1))
        damaged = whole[:at] + struct.pack("<HHII", tag, 3, count, 203) + whole[at + 12 :]
        (tmp_path / f"{tag}.tif").write_bytes(damaged)
    Image.new("RGB", (40, 20)).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    packed = bytearray((tmp_path / "lzw.tif").read_bytes())
    packed[8:16] = b"\xff" * 8
    (tmp_path / "lzw.tif").write_bytes(packed)
    words = [sys.executable, "-c", SAYS_WHY, *(str(tmp_path / f"{name}.tif") for name in (259, 277, "lzw"))]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    assert said.stderr == "" and said.stdout.count("can't be read") == len(said.stdout.splitlines()) >= 1


def test_files_of_macos_beside_the_images_are_left_alone(tmp_path: Path) -> None:
    Image.new("RGB", (4, 2)).save(tmp_path / "x.jpg")
    (tmp_path / "._x.jpg").write_bytes(b"\0\5\x16\7")
    assert [frame.name for frame in open_source(str(tmp_path))] == ["x.jpg"]

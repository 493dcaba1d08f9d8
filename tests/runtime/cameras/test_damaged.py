"""Files that mutation found: each is one line, whatever the library raises at it."""

from pathlib import Path

import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import open_source

SEEDS = Path(__file__).parents[2] / "fuzz" / "seeds"


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
    content = (SEEDS / "video" / "mpeg4.mp4").read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(content.replace(b"stbl", b"zzzz"))  # the table that names the codec
    with pytest.raises(InputError, match=r"a.mp4 is in a format that PyAV has no decoder for; convert it"):
        open_source(str(path))


def test_packets_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transport stream cut into its first packet: FFmpeg asks to try again."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")

    def again(*_: object) -> object:
        raise av.error.BlockingIOError(11, "Resource temporarily unavailable")
        yield

    from edgeprune.runtime.cameras import video

    class Container:
        def demux(self, stream: object) -> object:
            return again()

    with pytest.raises(InputError, match=r"cannot read a.ts as a video \(Resource temporarily unavailable\)"):
        next(video._demux("a.ts", Container(), None))


def test_a_tiff_whose_second_page_has_no_size(tmp_path: Path) -> None:
    """Pillow reads the first, and raises a TypeError when it counts them."""
    path = tmp_path / "a.tiff"
    Image.new("L", (8, 8)).save(path, save_all=True, append_images=[Image.new("L", (8, 8))])
    content = bytearray(path.read_bytes())
    at = content.rindex(b"\x00\x01\x04\x00")  # the second page's ImageWidth, which is another tag now
    content[at : at + 2] = b"\xff\xfe"
    path.write_bytes(content)
    (frame,) = open_source(str(path))
    assert frame.image_HW3.shape == (8, 8, 3)

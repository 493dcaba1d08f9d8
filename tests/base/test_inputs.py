"""What is not a regular file of a sane size is refused at once: nothing blocks, nothing fills the memory."""

import os
from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.base.files import sha256
from edgeprune.base.inputs import DATA_BYTES, TEXT_BYTES, blocks_of, look_at, read_text


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_a_pipe_does_not_block(fifo: Path) -> None:
    for read in (look_at, read_text):
        with pytest.raises(InputError, match=r"recipe .*fifo is a pipe; name a file"):
            read(fifo, "recipe")
    with pytest.raises(InputError, match="is a pipe"):
        sha256(fifo)


def test_a_file_that_becomes_a_pipe_does_not_block(fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.base.inputs.look_at", lambda *_: 5)
    with pytest.raises(InputError, match="is no regular file"):
        read_text(fifo, "recipe")


@pytest.mark.parametrize(
    ("path", "words"),
    [("/", "is a folder"), ("/dev/zero", "is a device"), ("/nowhere", "is not there"), ("a\0b", "can't be read: embedded"),
     ("x" * 300, "can't be read: File name too long")],
)  # fmt: skip
def test_what_is_no_file(path: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_text(Path(path), "recipe")


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(4 << 40)
    with pytest.raises(InputError, match=f"has 4,398,046,511,104 bytes, at most {DATA_BYTES:,} are read"):
        sha256(path)
    os.truncate(path, TEXT_BYTES + 1)
    with pytest.raises(InputError, match=f"at most {TEXT_BYTES:,} are read"):
        read_text(path, "recipe")


@pytest.mark.skipif(not os.access("/proc/kmsg", os.R_OK), reason="needs a readable /proc/kmsg")
def test_a_file_of_proc_that_blocks_is_as_long_as_it_says() -> None:
    assert list(blocks_of(Path("/proc/kmsg"), "recipe")) == []


def test_a_text_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"ab\xff")
    with pytest.raises(InputError, match="invalid start byte at byte 2, expected UTF-8"):
        read_text(tmp_path / "a", "recipe")
    (tmp_path / "a").write_text("whole é")
    assert read_text(tmp_path / "a", "recipe") == "whole é"

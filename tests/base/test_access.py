"""What a user may do with a path: by its owner, group and mode, and those of every folder on the way."""

import os
from pathlib import Path

import pytest

from edgeprune.base import access
from edgeprune.base.access import Somebody

OTHER = Somebody("other")
OWNER = Somebody("owner", os.getuid())
MEMBER = Somebody("member", os.getuid() + 1, frozenset({os.getgid()}))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, seen as if all above it were open: that of the tests is the tester's alone."""
    may = Somebody._may
    above = {tmp_path, *tmp_path.parents}
    monkeypatch.setattr(Somebody, "_may", lambda somebody, path, needed: path in above or may(somebody, path, needed))
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "file").write_text("")
    return folder


@pytest.mark.parametrize(
    ("who", "folder_mode", "file_mode", "stopped"),
    [
        (OTHER, 0o701, 0o604, None),
        (OTHER, 0o701, 0o640, "file"),
        (OTHER, 0o770, 0o644, "."),
        (MEMBER, 0o710, 0o640, None),
        (MEMBER, 0o701, 0o644, "."),  # who is in the group is none of the others
        (MEMBER, 0o710, 0o604, "file"),
        (OWNER, 0o700, 0o400, None),
        (OWNER, 0o677, 0o644, "."),
        (OWNER, 0o700, 0o244, "file"),
    ],
)
def test_whose_bits_count(place: Path, who: Somebody, folder_mode: int, file_mode: int, stopped: str | None) -> None:
    (place / "file").chmod(file_mode)
    place.chmod(folder_mode)
    try:
        if os.getuid() == 0 or place.stat().st_mode & 0o100:
            assert who.stopped_at(place / "file") == (stopped and place / stopped)
    finally:
        place.chmod(0o700)


def test_files_are_made_where_a_folder_may_be_written_and_passed(place: Path) -> None:
    for mode, stopped in [(0o703, None), (0o705, place), (0o702, place)]:
        place.chmod(mode)
        assert OTHER.stopped_at(place, write=True) == stopped


def test_a_link_is_followed_through_every_folder_on_its_way(place: Path, tmp_path: Path) -> None:
    """As that of an environment's Python: it leads through a link of another folder."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "between").symlink_to("../a/file")
    (tmp_path / "link").symlink_to(closed / "between")
    for folder in (place, closed):
        folder.chmod(0o701)
    assert OTHER.stopped_at(tmp_path / "link") is None
    closed.chmod(0o700)
    assert OTHER.stopped_at(tmp_path / "link") == closed
    (tmp_path / "round").symlink_to("round")
    assert OTHER.stopped_at(tmp_path / "round") is None  # who opens it says so
    assert OTHER.stopped_at(place / "missing") is None


def test_what_an_access_list_gives_is_not_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.chmod(0o700)
    assert OTHER.stopped_at(place) == place
    monkeypatch.setattr(access.os, "listxattr", lambda path: ["system.posix_acl_access"], raising=False)
    assert OTHER.stopped_at(place) is None

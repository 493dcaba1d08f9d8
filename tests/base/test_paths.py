"""Paths that people type: links that lead in a circle and homes of nobody are one line."""

from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.base.paths import from_home, real_path


def test_links_are_followed_whether_or_not_something_is_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("folder")
    assert real_path(tmp_path / "link" / ".." / "link" / "file") == (tmp_path / "folder" / "file").resolve()


@pytest.mark.parametrize("below", ["", "rows", "rows/a.csv"])
def test_a_link_to_itself_is_one_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(InputError, match="leads through a link that leads to itself; remove the link"):
        real_path(tmp_path / "one" / below)


def test_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert from_home("~/rows/") == "/home/me/rows/"
    assert from_home("rows/~") == "rows/~"
    with pytest.raises(InputError, match=r"~nobody-here/b: there is no user 'nobody-here' .* or \./~nobody-here/b"):
        from_home("~nobody-here/b")

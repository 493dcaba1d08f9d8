"""Outputs that are inputs, or each other; and where the lock of an endless one lies."""

from pathlib import Path

import click
import pytest

from edgeprune.base.errors import InputError
from edgeprune.base.outputs import LOCK_INSIDE
from edgeprune.base.owning import own, refuse_addresses, refuse_inputs, refuse_one_name


def test_an_output_that_is_an_input(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.touch()
    (tmp_path / "soft.mp4").symlink_to(film)
    (tmp_path / "hard.mp4").hardlink_to(film)
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("film.mp4", "soft.mp4", "hard.mp4", "folder/film.mp4", "x/../film.mp4"):
        with pytest.raises(InputError, match=r"is what is read from .*name another file"):
            refuse_inputs([tmp_path / name], [film])
        if "x" not in name:
            with pytest.raises(InputError, match="is what is read from"):
                refuse_inputs([film], [tmp_path / name])
    with pytest.raises(InputError, match="is among the files that are read from"):
        refuse_inputs([film], [], [tmp_path / "folder"])
    refuse_inputs([tmp_path / "new.mp4"], [film], [tmp_path])
    for name in ("film.mp4", "new.mp4", "folder/new/rows.csv"):
        with pytest.raises(InputError, match=r"lies in .*, which is read; name a place outside of it"):
            refuse_inputs([tmp_path / name], [tmp_path / "folder"])


def test_two_outputs_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(tmp_path)
    with pytest.raises(InputError, match="are one file; name two"):
        refuse_one_name([tmp_path / "a.csv", tmp_path / "folder" / "a.csv"])
    refuse_one_name([tmp_path / "a.csv", tmp_path / "a.mp4"])


def test_an_address_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would become a folder `rtsp:`."""
    monkeypatch.chdir(tmp_path)
    for typed in ("rtsp://host/stream", "udp://239.0.0.1:5000", "mqtts://broker/topic"):
        with pytest.raises(InputError, match=f"^{typed} is an address, and results are written to files"):
            refuse_addresses([Path("rows.csv"), Path(typed)])
    refuse_addresses([Path("a:b.csv"), Path("out/a:/b"), tmp_path / "c:" / "d", Path("rtsp:")])
    (tmp_path / "old:").mkdir()
    refuse_addresses([Path("old:/rows.csv")])  # somebody's folder


def test_a_lock_lies_in_an_endless_folder_and_beside_any_other(tmp_path: Path) -> None:
    rows, maps = tmp_path / "rows", tmp_path / "maps"
    with click.Context(click.Command("run")):
        own([rows, maps], folders=True, endless=[rows])
        assert (rows / LOCK_INSIDE).is_file() and (tmp_path / ".maps.lock").is_file() and not maps.exists()
    assert not list(tmp_path.iterdir())

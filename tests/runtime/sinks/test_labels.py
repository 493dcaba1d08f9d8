"""Label maps in a folder and in a file."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError, RunError
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.runtime.sinks import label_archive
from edgeprune.runtime.sinks.label_archive import LabelArchive
from edgeprune.runtime.sinks.labels import LabelFolder, label_output, open_labels
from edgeprune.runtime.sinks.sink import Sink
from tests.runtime.loop.fakes import Scripted
from tests.runtime.rows import row
from tests.runtime.sinks.found import PALETTE, Found

NAMES = ["a.jpg", "b.JPEG", None, "000012", "a.bmp", "v1.2"]
STEMS = ["a", "b", "00000002", "000012", "a-00000004", "v1.2"]
FORMS = ["labels", "labels.npz"]


def write(sink: Sink, names: list[str | None]) -> None:
    for index, name in enumerate(names):
        sink.add(Found(index, name, height=6 + index), row(index))


def read(path: Path) -> dict[str, np.ndarray]:
    if path.is_dir():
        assert {file.suffix for file in path.iterdir()} == {".png"}
        return {file.stem: np.asarray(Image.open(file)) for file in path.iterdir()}
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("form", FORMS)
def test_ids_at_the_frames_own_pixels_by_the_frames_own_names(tmp_path: Path, form: str) -> None:
    path = tmp_path / "new" / form
    sink = open_labels(str(path), Scripted(0))
    write(sink, NAMES)
    assert not path.exists() and sink.kept and "partial" in sink.kept.name
    sink.close()
    sink.close()
    assert sink.kept == path and [each.name for each in path.parent.iterdir()] == [form]
    found = read(path)
    assert sorted(found) == sorted(STEMS)
    for index, stem in enumerate(STEMS):
        np.testing.assert_array_equal(found[stem], Found(index, height=6 + index).labels)


@pytest.mark.parametrize("form", FORMS)
def test_confidence_lies_beside_under_a_name_that_no_label_map_has(tmp_path: Path, form: str) -> None:
    """Whatever frames are called, and no data set takes it for a label map."""
    path = tmp_path / form
    sink = open_labels(str(path), Scripted(0))
    for index, name in enumerate(["a.jpg", "a.pgm", "a.png", "a/confidence"]):
        sink.add(Found(index, name, sure=100 + index), row(index))
    sink.close()
    stems = ["a", "a.pgm", "a-00000002", "confidence"]
    if path.is_dir():
        assert sorted(os.listdir(path)) == sorted(f"{stem}{suffix}" for stem in stems for suffix in (".pgm", ".png"))
        sures = [np.asarray(Image.open(path / f"{stem}.pgm")) for stem in stems]
        assert ".pgm" not in IMAGE_SUFFIXES
    else:
        found = read(path)
        assert sorted(found) == sorted([*stems, *(f"{stem}/confidence" for stem in stems)])
        sures = [found[f"{stem}/confidence"] for stem in stems]
    for index, sure_HW in enumerate(sures):
        np.testing.assert_array_equal(sure_HW, np.full((6, 9), 100 + index))


def test_confidence_of_a_frame_that_is_not_whole_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = LabelFolder(tmp_path / "labels")
    sink.add(Found(0, "a.jpg", sure=1), row(0))
    replace = os.replace

    def full(before: Path, after: Path) -> None:
        if Path(after).suffix == ".png":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(before, after)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="cannot write on to"):
        sink.add(Found(1, "b.jpg", sure=1), row(1))
    assert sink.kept and sorted(os.listdir(sink.kept)) == ["a.pgm", "a.png"]


@pytest.mark.parametrize("form", FORMS)
def test_no_frame_takes_the_name_of_another(tmp_path: Path, form: str) -> None:
    """The third would get the name that the first has of its own."""
    path = tmp_path / form
    sink = open_labels(str(path), Scripted(0))
    write(sink, ["1-00000002.png", "1.jpg", "1.png"])
    sink.close()
    found = read(path)
    assert sorted(found) == ["1", "1-00000002", "1-00000002-00000002"]
    assert [len(found[stem]) for stem in ("1-00000002", "1", "1-00000002-00000002")] == [6, 7, 8]


def test_a_viewer_shows_the_colours(tmp_path: Path) -> None:
    sink = LabelFolder(tmp_path / "labels")
    write(sink, ["a.png", "b.png"])
    sink.close()
    with Image.open(tmp_path / "labels" / "b.png") as picture:
        assert picture.mode == "P" and picture.convert("RGB").getpixel((3, 3)) == PALETTE[1]


@pytest.mark.parametrize("form", FORMS)
def test_the_row_says_what_it_took(tmp_path: Path, form: str) -> None:
    sink = open_labels(str(tmp_path / form), Scripted(0))
    taken = sink.add(Found(0), row(0, encode_ms=None)).encode_ms
    assert taken and taken > 0
    more = sink.add(Found(1), row(1, encode_ms=100.0)).encode_ms
    assert more and more > 100


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_failed_keeps_what_it_wrote_and_nothing_else(tmp_path: Path, form: str) -> None:
    for count in (2, 1):
        sink = open_labels(str(tmp_path / form), Scripted(0))
        write(sink, [None] * count)
        sink.abandon()
    open_labels(str(tmp_path / form), Scripted(0)).abandon()
    numbered = ["labels.partial", "labels.partial-2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(name + form[6:] for name in numbered)
    assert [len(read(tmp_path / (name + form[6:]))) for name in numbered] == [2, 1]
    with pytest.raises(InputError, match="is what a run that failed has kept"):
        label_output(str(tmp_path / f"labels.partial{form[6:]}"))


def test_names_that_are_refused(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "photo.jpg").touch()
    with pytest.raises(InputError, match=r"full is not empty; name a new folder, or move what is in it"):
        label_output(str(full))
    for name in ("full/photo.jpg", "labels.png"):
        with pytest.raises(
            InputError, match=r"is no folder; label maps are written to a folder, or to a file that ends in"
        ):
            label_output(str(tmp_path / name))
    with pytest.raises(InputError, match=r"can't be given to label maps alone; name a new folder in it"):
        label_output(str(tmp_path / ".."))
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(InputError, match=r"x.npz is a folder; name a file, such as .*x.npz/labels.npz"):
        label_output(str(tmp_path / "x.npz"))
    for name in ("x.txt", "labels.zip"):
        with pytest.raises(InputError, match=rf"{name} looks like a file; .* folder, such as .*, or to a file .*\.npz"):
            label_output(str(tmp_path / name))
    assert label_output(str(tmp_path / "run-1.2")).folder
    (tmp_path / "empty").mkdir()
    sink = open_labels(str(tmp_path / "empty"), Scripted(0))
    write(sink, [None])
    sink.close()
    assert list(read(tmp_path / "empty")) == ["00000000"]


def test_a_folder_that_could_not_get_its_name_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, to in (("link", tmp_path), ("dangling", tmp_path / "gone")):
        (tmp_path / name).symlink_to(to)
        with pytest.raises(InputError, match=f"{name} is a link; name a folder in it, such as"):
            label_output(str(tmp_path / name))
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    with pytest.raises(InputError, match="disk is a mount point; name a folder in it, such as .*disk/new, or another"):
        label_output(str(tmp_path / "disk"))
    with pytest.raises(InputError, match="cannot write label maps to .*: File name too long"):
        open_labels(str(tmp_path / ("x" * 250)), Scripted(0))  # `.partial` is 8 more
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "disk", "link"]


def test_what_others_do_to_a_folder(tmp_path: Path) -> None:
    taken, removed, gone = (LabelFolder(tmp_path / name) for name in ("taken", "removed", "gone"))
    for sink in (taken, removed, gone):
        write(sink, [None, None])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "theirs").touch()
    with pytest.raises(RunError, match="cannot give .*taken its name"):
        taken.close()
    assert taken.kept == taken.partial and len(read(taken.partial)) == 2
    shutil.rmtree(removed.partial)
    with pytest.raises(RunError, match=r"removed.partial was removed or moved by another process"):
        removed.close()
    shutil.rmtree(gone.partial)
    with pytest.raises(RunError, match=r"gone.partial was removed or moved by another process"):
        gone.add(Found(2), row(2))
    gone.close()
    assert removed.kept is None and gone.kept is None


@pytest.mark.parametrize("frames", [0, 3])
def test_a_full_disk_leaves_whole_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int) -> None:
    sink = LabelFolder(tmp_path / "labels")
    write(sink, [None] * frames)

    def fail(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(RunError, match=r"cannot write on to .*labels \(No space left on device\); free some space"):
        sink.add(Found(9), row(9))
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == (["labels.partial"] if frames else [])
    assert sink.kept == (sink.partial if frames else None)
    if frames:
        assert len(read(sink.partial)) == frames


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
import numpy as np
from edgeprune.base.errors import RunError
from edgeprune.runtime.sinks.label_archive import LabelArchive
from tests.runtime.rows import row
from tests.runtime.sinks.found import Found
sink = LabelArchive(Path("labels.npz"))
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    for index in range(1000):
        sink.add(Found(index), row(index))
except RunError as error:
    print(index, error)
sink.close()
print(sink.kept)
"""


@pytest.mark.parametrize("limit", [100, 9_000])
def test_a_full_disk_leaves_an_archive_that_can_be_read(tmp_path: Path, limit: int) -> None:
    """The limit is that of a file, which fails as a full disk does."""
    script = FULL.format(root=str(Path(__file__).parents[3]), limit=limit)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said, kept = done.stdout.splitlines()
    assert "cannot write on to labels.npz" in said
    if limit == 100:
        assert "none is kept in it" in said and kept == "None" and not list(tmp_path.iterdir())
        return
    found = read(tmp_path / kept)
    written = int(said.split()[0])
    assert kept == "labels.partial.npz" and written / 3 < len(found) < written
    assert f"the first {len(found)} frames are in labels.partial.npz" in said
    assert all(np.array_equal(label_HW, Found(int(name)).labels) for name, label_HW in found.items())


def test_a_disk_that_fills_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The members fit, their directory does not."""
    sink = LabelArchive(tmp_path / "labels.npz")
    write(sink, [None] * 40)
    before = sink.partial.stat().st_size
    put = LabelArchive._put

    def on_a_full_disk(self: LabelArchive, data: bytes) -> None:
        if self._whole_bytes + len(data) > before:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, data)

    monkeypatch.setattr(LabelArchive, "_put", on_a_full_disk)
    with pytest.raises(RunError, match="cannot write on to"):
        sink.close()
    assert sink.kept == sink.partial and 10 < len(read(sink.partial)) < 40


def test_an_entry_of_the_directory_is_no_larger_than_is_reckoned_with(tmp_path: Path) -> None:
    sink = LabelArchive(tmp_path / "labels.npz")
    write(sink, [None] * 10)
    names = sum(len(member.filename) for (member,) in sink._members)
    assert len(sink._directory()) <= 11 * label_archive.ENTRY_BYTES + names
    sink._members[0][0].header_offset = 1 << 40  # ZIP64
    assert len(sink._directory()) <= 11 * label_archive.ENTRY_BYTES + names
    sink._members[0][0].header_offset = 0
    sink.close()


def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    folder, archive = LabelFolder(tmp_path / "labels"), LabelArchive(tmp_path / "labels.npz")
    for sink in (folder, archive):
        write(sink, [name])
        sink.close()
    assert os.listdir(os.fsencode(tmp_path / "labels")) == [b"\xff.png"]
    assert list(read(tmp_path / "labels.npz")) == ["\\udcff"]


@pytest.mark.parametrize("form", FORMS)
def test_what_a_killed_run_has_left_is_said_by_the_next(tmp_path: Path, form: str, said: list[str]) -> None:
    """Killed: neither closed nor abandoned. What was written is there, and is kept."""
    killed = open_labels(str(tmp_path / form), Scripted(0))
    write(killed, ["a", "b"])
    left = killed.kept
    assert left and not killed.note
    after = open_labels(str(tmp_path / form), Scripted(0))
    assert said == [f"{left} is what an earlier run has left; it stays as it is"]
    if form == "labels":
        assert list(read(left)) and after.note is None
    else:
        assert after.note == f"{left} was killed in writing; `zip -FF {left} --out FILE.npz` makes it readable"
    after.abandon()
    killed.abandon()
    assert sorted(read(left)) == ["a", "b"]
    assert open_labels(str(tmp_path / form), Scripted(0)).note is None

"""Label maps without an end: folders or archives that follow each other, bounded, the oldest removed first."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.runtime.sinks import labels
from edgeprune.runtime.sinks.labels import LabelSeries, kind_of, label_output, open_labels
from tests.runtime.loop.fakes import Scripted
from tests.runtime.rows import row
from tests.runtime.sinks.found import Found

FORMS = ["maps", "maps.npz"]


def segments(folder: Path) -> list[Path]:
    """In their order."""
    return sorted(each for each in folder.iterdir() if kind_of(folder).number(each.name) is not None)


def read(segment: Path) -> dict[str, np.ndarray]:
    if segment.is_dir():
        return {file.stem: np.asarray(Image.open(file)) for file in segment.glob("*.png")}
    with np.load(segment) as arrays:
        return dict(arrays)


def bytes_of(folder: Path) -> int:
    files = [file for segment in segments(folder) for file in (segment.glob("*.p*") if segment.is_dir() else [segment])]
    return sum(file.stat().st_size if folder.suffix else max(4096, file.stat().st_size) for file in files)


def write(folder: Path, frames: range, keep: int) -> LabelSeries:
    sink = open_labels(f"{folder}/", Scripted(0))
    assert isinstance(sink, LabelSeries)
    sink.bound(keep)
    for index in frames:
        sink.add(Found(index, sure=3), row(index))
        assert bytes_of(folder) <= keep
    return sink


@pytest.mark.parametrize("form", FORMS)
def test_the_oldest_go_and_a_run_goes_on_where_one_was_before(tmp_path: Path, form: str) -> None:
    folder, keep = tmp_path / "new" / form, 20_000 if form == "maps.npz" else 32 * 4096
    write(folder, range(30), keep).close()
    write(folder, range(30), keep).abandon()  # as one that failed
    write(folder, range(100, 120), keep).close()
    assert label_output(f"{folder}/").endless
    numbers = [kind_of(folder).number(each.name) for each in segments(folder)]
    assert len(numbers) == len(set(numbers)) and len(numbers) > 2
    found = [stem for each in segments(folder) for stem in read(each) if "/" not in stem]
    assert found[-1] == "00000119" if form == "maps.npz" else sorted(found)[-1] == "00000119"
    assert len(found) < 80
    newest = segments(folder)[-1]
    assert ".partial" not in newest.name
    np.testing.assert_array_equal(read(newest)["00000119"], Found(119).labels)


def test_what_is_somebody_elses_stays(tmp_path: Path) -> None:
    folder, keep = tmp_path / "maps", 16 * 4096
    first = write(folder, range(2), keep)
    (segments(folder)[0] / "notes.txt").write_text("mine")
    first.close()
    oldest = segments(folder)[0]
    other = folder / "labels-00000000.txt"
    other.write_text("mine")
    write(folder, range(40), keep).close()
    assert [each.name for each in oldest.iterdir()] == ["notes.txt"] and other.read_text() == "mine"


def test_a_new_one_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "SEGMENT_S", 0.0)
    write(tmp_path / "maps", range(3), 10**9).close()
    assert [len(read(each)) for each in segments(tmp_path / "maps")] == [1, 1, 1]


@pytest.mark.parametrize("form", FORMS)
def test_no_frame_leaves_nothing(tmp_path: Path, form: str) -> None:
    sink = write(tmp_path / form, range(0), 10**9)
    sink.abandon()
    assert sink.kept is None and not (tmp_path / form).exists()


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(InputError, match="is a folder; name a file, such as .*labels.npz, or a new folder, such as"):
        label_output(f"{tmp_path}/")

"""Records of runs, read back: their figures, how they compare, and their picture."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.evaluate.record_figures import figures_of, gaps_s, ratios
from edgeprune.evaluate.record_plot import MOST_POINTS, _chosen, plot_records, times_s
from edgeprune.evaluate.record_rows import is_record, read_record
from edgeprune.runtime.remembered_tokens import MemoryFigures, RememberedTokens
from edgeprune.runtime.row import Row
from edgeprune.runtime.sinks import lines
from edgeprune.runtime.sinks import record as sink
from edgeprune.runtime.sinks.record import Record, RecordFolder
from edgeprune.runtime.summary import summarise_run
from edgeprune.runtime.thing_counts import ThingFigures
from tests.cli.conftest import Type, edgeprune
from tests.cli.test_bad_input import assert_one_line
from tests.runtime import rows
from tests.runtime.rows import ledger_of, read

__all__ = ["edgeprune"]

START_NS = 5 * 10**12


def row(index: int, begin_ns: int = START_NS, **values: Any) -> Row:
    """A frame every 100 ms that took 20 ms, and 40 in every fourth; captured 5 ms before; 2 W; the fourth asked for more."""
    late = index % 4 == 3
    start_ns = begin_ns + 10**8 * index
    about: dict[str, Any] = {
        "capture_ns": start_ns - 5 * 10**6,
        "start_ns": start_ns,
        "end_ns": start_ns + (40 if late else 20) * 10**6,
        "latency_ms": 40.0 if late else 20.0,
        "asked": "full" if late or index % 2 else "half",
        "bucket": "full" if index % 2 and not late else "half",
        "tokens": 5000 if index % 2 and not late else 2500,
        "dropped": int(late),
        "watts": 2.0,
        "celsius": -3.0 + index,
    }
    return rows.row(index, **(about | values))


def write(path: Path, given: list[Row]) -> Path:
    record = Record(path)
    for each in given:
        record.write(each)
    record.close()
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_figures_by_hand_and_those_that_the_run_printed(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"rows{suffix}", [row(index) for index in range(8)])
    figures = figures_of(read_record(path))
    assert (figures.runs, figures.frames, figures.dropped, figures.began) == (1, 8, 2, None)
    assert figures.seconds == pytest.approx(0.74) and figures.fps == pytest.approx(8 / 0.74)
    assert figures.age_ms.p50 == 25.0 and figures.longest_gap_s == pytest.approx(0.12)  # to the fourth's labels
    assert figures.watts == pytest.approx(2.0) and figures.mj_per_frame == pytest.approx(1000 * 2 * 0.74 / 8)
    assert figures.capped == 0.25 and figures.hottest_c == 4.0 and figures.silences == 0
    half, full = figures.buckets  # that of the fewest tokens first
    assert (half.bucket, half.frames, half.share, half.tokens) == ("half", 6, 0.75, 2500.0)
    assert (full.bucket, full.frames, full.latency_ms.p50, full.watts) == ("full", 2, 20.0, 2.0)
    printed = summarise_run(ledger_of(read(path)))
    assert (figures.frames, figures.dropped, figures.fps) == (printed.frames, printed.dropped, printed.fps)
    assert figures.latency_ms == printed.latency_ms
    assert {each.bucket: each.frames for each in figures.buckets} == printed.buckets


def test_a_folder_of_files_is_one_record_and_a_machine_that_was_started_anew_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "SEGMENT_BYTES", 400)
    folder = tmp_path / "rows"
    for begin_ns, count in (
        (START_NS, 8),
        (10**9, 4),
        (10**9 + 10**12, 4),
    ):  # the second after a boot, the third is not
        record = RecordFolder(folder)
        for index in range(count):
            record.write(row(index, begin_ns))
        record.close()
    assert len(list(folder.iterdir())) > 4
    found = read_record(folder)
    assert list(found.begins) == [0, 8, 12]
    figures = figures_of(found)
    assert (figures.runs, figures.frames) == (3, 16) and figures.seconds == pytest.approx(0.74 + 2 * 0.34)
    assert figures.longest_gap_s == pytest.approx(0.12)  # what lies between two runs is none
    assert figures.mj_per_frame == pytest.approx(1000 * 2 * figures.seconds / 16)
    assert figures.began and figures.began.endswith(" UTC")
    assert times_s(found)[[7, 8, 15]] == pytest.approx([0.74, 0.76, 1.42])


def test_frames_that_overlap_are_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitted while the one before them is in the graphs."""
    monkeypatch.setattr(lines, "SEGMENT_BYTES", 400)
    record = RecordFolder(tmp_path / "rows")
    for index in range(8):
        end_ns = START_NS + 10**8 * index + 15 * 10**7
        record.write(row(index, end_ns=end_ns, latency_ms=150.0))
    record.close()
    figures = figures_of(read_record(tmp_path / "rows"))
    assert len(list((tmp_path / "rows").iterdir())) > 2
    # the first from its start, the others every 100 ms
    assert (figures.runs, figures.longest_gap_s, figures.silences) == (1, 0.15, 0)
    # throughput and latency are figures of their own
    assert figures.fps == pytest.approx(8 / 0.85) and figures.latency_ms.p50 == 150.0


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("tail", [b"7,", b'{"index": 7', b"\0" * 5000, b"a,b\nc,d\n", b'"'])
def test_what_is_cut_off_at_the_end_is_left_out_and_said(tmp_path: Path, suffix: str, tail: bytes) -> None:
    path = write(tmp_path / f"rows{suffix}", [row(index) for index in range(4)])
    path.write_bytes(path.read_bytes() + tail)
    figures = figures_of(read_record(path))
    assert figures.frames == 4 and len(figures.notes) == 1
    assert f"{path}: the last " in figures.notes[0] and "cut off and left out" in figures.notes[0]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_row_that_was_cut_anywhere(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"rows{suffix}", [row(index) for index in range(3)])
    data = path.read_bytes()
    last = data[:-1].rindex(b"\n") + 1
    for cut in range(last + 1, len(data)):
        path.write_bytes(data[:cut])
        found = read_record(path)
        assert len(found) == 2 and len(found.notes) == 1


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", [row(index) for index in range(4)])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "broken\n", *lines[2:]]))
    with pytest.raises(InputError, match="rows.csv: row 2 is damaged, and others follow it; take it out"):
        read_record(path)
    path.write_text("step,loss\n1,2.5\n")
    with pytest.raises(InputError, match="is no record of a run: it has no column asked, bucket, capture_ns, "):
        read_record(path)
    for text in ("", lines[0], lines[0][:20]):
        path.write_text(text)
        with pytest.raises(InputError, match="rows.csv has no rows; name a record"):
            read_record(path)
    with pytest.raises(InputError, match="gone.csv is not there"):
        read_record(tmp_path / "gone.csv")
    assert is_record(path) and not is_record(tmp_path) and not is_record(tmp_path / "street-short")


@pytest.mark.parametrize(
    "values",
    [
        {"latency_ms": None},
        {"start_ns": 1 << 70},
        {"tokens": -1},
        {"end_ns": 0},
        {"watts": float("nan")},
        {"watts": 1e30},
        {"latency_ms": 1e308},
        {"wait_ms": float("inf")},
        {"celsius": 1e9},
        {"bucket": []},
        {"live": "perhaps"},
        {"live": [True]},
    ],
)
def test_values_that_no_run_writes(tmp_path: Path, values: dict[str, Any]) -> None:
    path = tmp_path / "rows.jsonl"
    cells = json.loads(sink.json_line(row(0)))
    path.write_text(json.dumps(cells | values) + "\n")
    try:
        assert len(read_record(path)) == 1  # unknown; a name like any other
        assert "bucket" in values or np.isnan(values["watts"])
    except InputError as error:
        assert "has no row that can be read" in str(error)


def test_a_meter_may_say_less_than_nothing(tmp_path: Path) -> None:
    """Noise of a rail that takes nothing, a battery that is charged: what a run writes is read again."""
    path = write(tmp_path / "rows.csv", [row(index, watts=-0.114 if index == 1 else 5.0) for index in range(3)])
    found = read_record(path)
    assert found.real["watts"].tolist() == [5.0, -0.114, 5.0] and not found.notes


def test_what_is_called_as_a_file_of_rows_and_is_none_is_left_alone(tmp_path: Path) -> None:
    """As a run leaves it alone that goes on in the folder."""
    write(tmp_path / "rows-00000001-20260131T235959Z.csv", [row(index) for index in range(4)])
    (tmp_path / "rows-00000002-20260131T235959Z.csv").mkdir()
    (tmp_path / "rows-00000003-20260131T235959Z.csv").symlink_to("/etc/passwd")
    assert is_record(tmp_path) and len(read_record(tmp_path)) == 4


def test_silences_are_gaps_of_more_than_five_seconds(tmp_path: Path) -> None:
    late = [row(index, START_NS + seconds * 10**9) for index, seconds in enumerate((0, 4, 10, 15, 21))]
    figures = figures_of(read_record(write(tmp_path / "rows.csv", late)))
    assert figures.silences == 3 and figures.longest_gap_s == pytest.approx(6.1)


@pytest.mark.parametrize("hung", [0, 1, 2])
def test_a_loop_that_hung_in_a_frame_is_a_silence(tmp_path: Path, hung: int) -> None:
    """`kill -STOP` for 8.5 seconds while the graphs run: the next frame begins right after it."""
    ns = 8_500 * 10**6
    given = [row(index, START_NS + ns * (index > hung)) for index in range(5)]
    given[hung] = replace(given[hung], end_ns=given[hung].end_ns + ns, latency_ms=given[hung].latency_ms + 8_500)
    found = read_record(write(tmp_path / "rows.csv", given))
    figures = figures_of(found)
    assert figures.silences == 1 and figures.longest_gap_s == pytest.approx(8.5 + (0.1 if hung else 0.02))
    assert gaps_s(found).sum() == pytest.approx(figures.seconds)


@pytest.mark.parametrize(("latency_s", "silences"), [(1, 5), (6, 0)])
def test_a_machine_that_is_slow_is_not_silent(tmp_path: Path, latency_s: int, silences: int) -> None:
    """As the live page has it: 7 s without labels are many for frames of a second, and none for frames of six."""
    about: dict[str, Any] = {"capture_ns": START_NS, "latency_ms": 1e3 * latency_s}
    ends_ns = [START_NS + 7 * 10**9 * (index + 1) for index in range(5)]
    given = [row(index, start_ns=end - latency_s * 10**9, end_ns=end, **about) for index, end in enumerate(ends_ns)]
    given[0] = replace(given[0], start_ns=START_NS)
    assert figures_of(read_record(write(tmp_path / "rows.csv", given))).silences == silences


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_what_is_read_ahead_has_no_age(tmp_path: Path, suffix: str) -> None:
    """Of a folder whose runs had a file and then a camera, the camera's; of rows that do not say so, as before."""
    for number, (live, p50) in enumerate([(False, None), (True, 25.0), (None, 25.0)]):
        path = write(tmp_path / f"rows{number}{suffix}", [row(index, live=live) for index in range(4)])
        assert figures_of(read_record(path)).age_ms.p50 == p50
    given = [row(index, live=index > 2, capture_ns=START_NS) for index in range(4)]
    age_ms = figures_of(read_record(write(tmp_path / f"both{suffix}", given))).age_ms
    assert age_ms.p50 == age_ms.p99 == 340.0  # the fourth alone


def test_a_record_of_before_there_were_temperatures(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", [row(index) for index in range(4)])
    until = sink.COLUMNS.index("celsius")
    path.write_text("".join(f"{','.join(line.split(',')[:until])}\n" for line in path.read_text().splitlines()))
    figures = figures_of(read_record(path))
    assert figures.frames == 4 and figures.hottest_c is None and figures.watts == pytest.approx(2.0)


def test_ratios_are_of_the_first(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", [row(index) for index in range(8)])
    twice = write(tmp_path / "b.csv", [row(index, latency_ms=50.0, watts=None) for index in range(8)])
    found = ratios([figures_of(read_record(path)) for path in (first, twice)])
    assert found[0] == {"record": str(first)} | dict.fromkeys(found[0].keys() - {"record"}, 1.0)
    assert (found[1]["p50_ms"], found[1]["fps"], found[1]["watts"]) == (2.5, 1.0, None)


def test_the_slowest_frames_are_drawn_however_long_a_record_is(tmp_path: Path) -> None:
    found = read_record(write(tmp_path / "a.csv", [row(index) for index in range(9)]))
    assert list(_chosen(found)) == list(range(9))
    latency_ms = np.ones(3 * MOST_POINTS)
    latency_ms[[1, 31_111, 3 * MOST_POINTS - 2]] = 9.0
    long = type(found)(**(vars(found) | {"real": {"latency_ms": latency_ms}, "bucket": np.zeros(3 * MOST_POINTS, int)}))
    chosen = _chosen(long)
    assert len(chosen) <= MOST_POINTS and (latency_ms[chosen] == 9.0).sum() == 3


def test_a_report_of_records(edgeprune: Type, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`: pip install 'edgeprune[plot]'")
    first = write(tmp_path / "a.csv", [row(index) for index in range(40)])
    second = write(tmp_path / "b.jsonl", [row(index, dropped=0, watts=None) for index in range(1)])
    second.write_text(second.read_text() + '{"index": 1')
    said = edgeprune("report", first, second, "--out", tmp_path / "plot.png")
    assert said.code == 0 and f"\nagainst {first}:\n" in said.out
    assert f"note: {second}: the last row is cut off and left out" in said.out
    assert (tmp_path / "plot.png").stat().st_size > 20_000
    content = json.loads(edgeprune("report", first, second, "--json").out)
    assert [each["frames"] for each in content["records"]] == [40, 1] and len(content["ratios"]) == 2
    assert content["records"][0]["buckets"][0]["bucket"] == "half"
    assert_one_line(edgeprune("report", first, tmp_path), f"{first} is a record of rows, and {tmp_path} is none")
    assert_one_line(edgeprune("report", first, "--out", first), "is what is read from")
    with pytest.raises(InputError, match="5 records have no room in one plot; name at most 4, or leave --out out"):
        plot_records([read_record(first)] * 5, tmp_path / "many.png")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_things_are_those_that_the_run_printed(tmp_path: Path, suffix: str) -> None:
    counts = [{"car": 2, "person": 1}, {}, {"car": 4}]
    path = write(tmp_path / f"rows{suffix}", [row(index, things=things) for index, things in enumerate(counts)])
    figures = figures_of(read_record(path))
    assert figures.things == summarise_run(ledger_of(read(path))).things
    assert figures.things == {"car": ThingFigures(2.0, 4, 2), "person": ThingFigures(1 / 3, 1, 1)}
    assert figures_of(read_record(write(tmp_path / f"none{suffix}", [row(0)]))).things is None


@pytest.mark.parametrize(
    "cell", ['"3"', "[1]", '{"car": -1}', '{"car": 1.5}', '{"car": true}', '{"car": 2', "car", "[" * 9999]
)
def test_counts_that_are_none_are_damage(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path / "rows.csv", [row(0, things={"car": 1}), row(1, name="NAME")])
    with path.open(newline="") as file:
        header, *cells = csv.reader(file)
    cells[1][header.index("things")] = cell
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *cells])
    found = read_record(path)
    assert len(found) == 1 and len(found.notes) == 1
    content = json.loads(json.dumps({**read(write(tmp_path / "rows.jsonl", [row(1)]))[0], "things": cell}))
    good = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(good + json.dumps(content | {"index": 2}) + "\n")
    assert len(read_record(tmp_path / "rows.jsonl")) == 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_tokens_of_a_memory_are_those_that_the_run_printed(tmp_path: Path, suffix: str, edgeprune: Type) -> None:
    tokens = [RememberedTokens(768, 0, 0), RememberedTokens(24, 744, 12), None]
    rows = [replace(row(index), **each._asdict() if each else {}) for index, each in enumerate(tokens)]
    path = write(tmp_path / f"rows{suffix}", rows)
    figures = figures_of(read_record(path))
    assert figures.memory == MemoryFigures(2, 396.0, 372.0, 6.0) == summarise_run(ledger_of(read(path))).memory
    said = edgeprune("report", path)
    columns = "frames that remember +tokens computed +of them in their turn +carried"
    assert re.search(rf"{columns}\n.*\n.* 2 +396\.0 +6\.0 +372\.0", said.out)
    assert figures_of(read_record(write(tmp_path / f"none{suffix}", [row(0)]))).memory is None


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_energy_of_a_machine_is_not_charged_to_one_of_several_cameras(tmp_path: Path, suffix: str) -> None:
    """With two cameras `report` said twice as much as the summary."""
    shared = [row(index, cameras=2) for index in range(8)]
    figures = figures_of(read_record(write(tmp_path / f"rows{suffix}", shared)))
    assert figures.watts == pytest.approx(2.0) and figures.mj_per_frame is None
    assert len(figures.notes) == 1 and "no mJ a frame of a run of several cameras" in figures.notes[0]
    without = [replace(each, watts=None) for each in shared]
    assert figures_of(read_record(write(tmp_path / f"without{suffix}", without))).notes == ()
    later = [row(index, begin_ns=START_NS + 10**9) for index in range(8, 16)]  # alone, in the same folder
    mixed = figures_of(read_record(write(tmp_path / f"mixed{suffix}", shared + later)))
    assert mixed.mj_per_frame == pytest.approx(1000 * 2 * 0.74 / 8) and len(mixed.notes) == 1
    damaged = write(tmp_path / "damaged.jsonl", [row(0), row(1, cameras="x")])
    assert len(read_record(damaged)) == 1


@pytest.mark.parametrize(
    "cells",
    [
        ("24", "", "0"),
        ("-1", "0", "0"),
        ("24", "x", "0"),
        ("1", "0", "2"),
        ("24.9", "743", "1"),
        ("2_4", "0", "0"),
        ("٢٤", "0", "0"),
        ("1e9", "0", "0"),
        ("9" * 30, "0", "0"),
    ],
)
def test_tokens_of_a_memory_that_are_none_are_damage(tmp_path: Path, cells: tuple[str, str, str]) -> None:
    path = write(tmp_path / "rows.csv", [row(0), row(1)])
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    for name, cell in zip(("computed", "carried", "refreshed"), cells, strict=True):
        lines[1][header.index(name)] = cell
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *lines])
    found = read_record(path)
    assert len(found) == 1 and len(found.notes) == 1


@pytest.mark.parametrize("cells", [(24.0, 743, 1), (24, 743, True), ([24], 743, 1)])
def test_tokens_that_are_no_whole_numbers_of_json_are_damage(tmp_path: Path, cells: tuple[Any, ...]) -> None:
    path = write(tmp_path / "rows.jsonl", [row(0), row(1)])
    first, second = path.read_text().splitlines()
    damaged = json.loads(second) | dict(zip(("computed", "carried", "refreshed"), cells, strict=True))
    path.write_text(f"{first}\n{json.dumps(damaged)}\n")
    assert len(read_record(path)) == 1


def test_a_record_of_more_classes_than_any_run_counts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeprune.evaluate.record_rows.MOST_CLASSES", 3)
    path = write(tmp_path / "rows.csv", [row(index, things={f"class{index}": 1}) for index in range(4)])
    with pytest.raises(InputError, match="things of more than 3 classes, as no run counts"):
        read_record(path)


def test_line_ends_of_another_system_are_none_of_a_column(tmp_path: Path) -> None:
    """In a record of before, whose last column is `live`: what was read ahead has no age."""
    path = write(tmp_path / "rows.csv", [row(index, live=False) for index in range(4)])
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    last = lines[0].index("live") + 1
    path.write_text("".join(",".join(cells[:last]) + "\r\n" for cells in lines), newline="")
    assert not read_record(path).live.any() and figures_of(read_record(path)).age_ms.p50 is None

"""What a run that goes on has to keep to: the checks on runs that are made up, the viewer at a page, and a run."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click.testing
import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.evaluate.record_rows import read_record
from edgeprune.lab.endurance import __main__ as study
from edgeprune.lab.endurance.__main__ import main
from edgeprune.lab.endurance.checks import FEWEST, UNFINISHED_BYTES, Seen, check
from edgeprune.lab.endurance.report import write_report
from edgeprune.lab.endurance.running import Place
from edgeprune.lab.endurance.watching import Player, Sample, take_sample
from edgeprune.runtime.sinks.record import Record
from tests import bundles
from tests.runtime.page.conftest import Serve, publish_noise, serve, until
from tests.runtime.rows import row

__all__ = ["serve"]
KEEP = 40_000_000
ENGINE = {"precision": "int8", "engine": "onnxruntime", "version": "1", "threads": 1}


def sample(at_s: float, resident_mb: float = 300.0, **bytes_of: int) -> Sample:
    return Sample(at_s, resident_mb, 200.0, 17, 20, {"rows": 5000, "video": KEEP} | bytes_of)


@pytest.fixture
def seen(tmp_path: Path) -> Seen:
    """Five minutes in which every check holds: 600 frames, each third one dropped."""
    record = Record(tmp_path / "rows.csv")
    for index in range(600):
        latency_ms = 14.0 if index % 50 == 0 else 10.0
        record.write(row(index * 3 // 2, dropped=int(index % 2 == 0 and index > 0), latency_ms=latency_ms, bucket="k8"))
    record.close()
    summary = {"frames": 600, "offered": 899, "dropped": 299, "ended": "finished", "engine": ENGINE, "model": "tiny"}
    about = {"camera": {"fps": 15.0}, "machine": {"cores": 2, "cpu": "a  cpu"}}
    return Seen(
        samples=[sample(7 + 10.0 * index, 290.0 if index < 6 else 300.0 + index / 10) for index in range(31)],
        record=read_record(tmp_path / "rows.csv"),
        summary=summary | about,
        exit_code=0,
        pictures=500,
        broken=0,
        disordered=0,
        longest_gap_s=1.0,
        failures=[],
        faults=0,
        keep_bytes=KEEP,
        quiet=True,
    )


def failed(seen: Seen) -> list[str]:
    return [each.what for each in check(seen) if not each.holds]


def test_all_holds(seen: Seen) -> None:
    assert failed(seen) == [] and len(check(seen)) == 7


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("end", {"exit_code": 3}),
        ("end", {"faults": 1}),
        ("viewer", {"pictures": 0}),
        ("viewer", {"broken": 1}),
        ("viewer", {"disordered": 1}),
        ("viewer", {"longest_gap_s": 5.1}),
        ("viewer", {"failures": ["the stream ended"]}),
    ],
)
def test_what_is_seen_from_outside(seen: Seen, what: str, changes: dict[str, Any]) -> None:
    assert failed(replace(seen, **changes)) == [what]


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        (["end"], {"ended": "interrupted"}),
        (["record", "drops"], {"frames": 601}),  # a row was lost
        (["drops"], {"offered": 900}),  # a frame was lost that nobody counted
        (["drops"], {"dropped": 298, "offered": 898}),
    ],
)
def test_what_the_summary_says(seen: Seen, what: list[str], changes: dict[str, Any]) -> None:
    assert failed(replace(seen, summary={**seen.summary, **changes})) == what


def test_memory_after_the_first_minute(seen: Seen) -> None:
    """The second minute has a median of 301, the last one of 302.75: 2% more would be 307.0."""
    grown = [*seen.samples[:-6], *(sample(257 + 10.0 * index, 308.0) for index in range(6))]
    assert failed(replace(seen, samples=grown)) == ["resident memory"]
    peak = [*seen.samples[:15], sample(157, 999.0), *seen.samples[16:]]
    assert failed(replace(seen, samples=peak)) == []  # what is given back


@pytest.mark.parametrize("samples", [1, 2])
def test_a_run_that_ends_at_once_has_too_few_samples(seen: Seen, samples: int) -> None:
    short = replace(seen, samples=seen.samples[:samples])
    assert failed(short) == ["resident memory"]
    [line] = [each.line() for each in check(short) if not each.holds]
    assert line == f"resident memory: too few samples, {samples} in {10 * (samples - 1)} s; expected less than +2%"


def test_disk(seen: Seen) -> None:
    over = [*seen.samples[:-1], sample(307, video=KEEP + UNFINISHED_BYTES + 1)]
    assert failed(replace(seen, samples=over)) == ["disk"]
    nothing = [replace(each, bytes_of={"rows": 0, "video": 9}) for each in seen.samples]
    assert failed(replace(seen, samples=nothing)) == ["disk"]


def test_rows_whose_index_and_drops_disagree(seen: Seen) -> None:
    dropped = seen.record.whole["dropped"].copy()
    dropped[[4, 5]] = dropped[[5, 4]]  # the sum stays
    record = replace(seen.record, whole={**seen.record.whole, "dropped": dropped})
    assert failed(replace(seen, record=record)) == ["drops"]


def test_latency_counts_where_the_machine_is_quiet_and_frames_are_many(seen: Seen) -> None:
    slow = seen.record.real["latency_ms"].copy()
    slow[::50] = 15.5
    record = replace(seen.record, real={**seen.record.real, "latency_ms": slow})
    assert failed(replace(seen, record=record)) == ["latency, k8"]
    [tail] = [each for each in check(replace(seen, record=record, quiet=False)) if each.what == "latency, k8"]
    assert (tail.verdict, tail.asked) == ("not asked", False)
    few = seen.record.bucket.copy()
    few[: 600 - FEWEST + 1] = 1  # in another bucket
    both = replace(record, bucket=few, names=["k8", "k9"])
    assert [each.what for each in check(replace(seen, record=both)) if "latency" in each.what] == ["latency, k9"]


def test_the_report(seen: Seen, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_report(tmp_path / "a.md", "5 minutes of tiny", "python -m x", seen, check(seen), "record  frames\n")
    said = (tmp_path / "a.md").read_text()
    assert said.startswith("# 5 minutes of tiny\n") and "![Memory, latency and drops over time](a.png)" in said
    assert "| drops | offered - processed = dropped, 0 rows | 899 offered, 600 processed, 299 dropped; 0 rows" in said
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_a_report_of_a_run_that_ended_at_once(seen: Seen, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    short = replace(seen, samples=seen.samples[:2])
    write_report(tmp_path / "a.md", "10 seconds of tiny", "python -m x", short, check(short), "record  frames\n")
    said = (tmp_path / "a.md").read_text()
    assert "Resident memory: 290.0 MB at the first frame, 290.0 MB at most" in said and "second minute" not in said
    assert "too few samples, 2 in 10 s" in said and (tmp_path / "a.png").is_file()


def test_what_was_measured_is_said_though_its_report_fails(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour's verdict hangs on no program that is run after it."""

    def refuse(*given: Any, **about: Any) -> None:
        raise OSError("no such program")

    bundle = SimpleNamespace(manifest=SimpleNamespace(name="tiny"))
    reported: list[Any] = []
    for name, fake in {
        "open_bundle": lambda path: bundle,
        "write_clip": lambda *given: None,
        "watch": lambda *given: seen,
        "write_report": lambda *given: reported.append(given),
        "subprocess": SimpleNamespace(run=refuse),
    }.items():
        monkeypatch.setattr(study, name, fake)
    done = click.testing.CliRunner().invoke(main, [str(tmp_path), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, RunError) and "no such program" in str(done.exception)
    assert all(each.line() in done.output for each in check(seen)) and len(reported) == 1
    assert (tmp_path / "out" / "memory.csv").is_file()


def test_a_sample_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_bytes(b"x" * 700)
    found = take_sample(os.getpid(), {"rows": tmp_path / "rows", "video": tmp_path / "none"})
    assert found.bytes_of == {"rows": 700, "video": 0}
    assert 10 < found.anonymous_mb <= found.resident_mb < 10_000 and found.threads >= 1 and found.files >= 3


def test_the_viewer_counts_whole_pictures_in_order(serve: Serve) -> None:
    served = serve()
    player = Player(served.port)
    until(lambda: served.page.viewers == 1)
    for index in range(4):
        publish_noise(served.publisher, index)
        until(partial(lambda number: player.pictures == number, index + 1))
    assert not (player.broken or player.disordered or player.failures)
    player._take(b"\xff\xd8frame 2\xff\xd9")
    player._take(b"\xff\xd8frame 9")
    assert (player.pictures, player.disordered, player.broken) == (5, 1, 1)
    served.server.stop()
    until(lambda: player.failures)
    assert player.failures[0].startswith("the stream ended")
    player.end()


def test_a_folder_with_an_earlier_run_is_refused(tmp_path: Path) -> None:
    Place(tmp_path).prepare()
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "rows-1.csv").touch()
    with pytest.raises(InputError, match="rows has an earlier run; name another folder with --out"):
        Place(tmp_path).prepare()


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [5.0])
def test_a_run_keeps_to_all_of_it(tmp_path: Path, minutes: float) -> None:
    """Latency by the tail's bound where nothing else runs; on a machine that does other work the rest."""
    for library in ("onnxruntime", "av", "uvicorn", "matplotlib"):
        pytest.importorskip(library)
    bundles.write_bundle(tmp_path / "bundle")
    typed = [str(tmp_path / "bundle"), "--minutes", str(minutes), "--keep", "8MB", "--out", str(tmp_path / "out")]
    busy = ["--busy"] if os.getloadavg()[0] > 0.5 else []
    done = click.testing.CliRunner().invoke(main, [*typed, *busy])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "endurance.md").is_file() and (tmp_path / "out" / "endurance.png").is_file()

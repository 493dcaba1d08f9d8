"""Faults that are injected into running loops: what becomes of each, and that what would be wrong is found."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeprune.lab.faults import checks, trial
from edgeprune.lab.faults.__main__ import run_all, summarise
from edgeprune.lab.faults.cameras import WebCamera, damaged, jpegs
from edgeprune.lab.faults.child import Child, Failed
from edgeprune.lab.faults.kinds import KINDS
from edgeprune.lab.faults.preloaded import compiled
from edgeprune.lab.faults.trial import Result, Tools, Trial
from edgeprune.runtime.cameras import open_source
from edgeprune.runtime.sinks.record import Record
from tests import bundles
from tests.runtime.rows import row

pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
pytest.importorskip("uvicorn", reason="needs the page: pip install 'edgeprune[view]'")
ROOT = Path(__file__).parents[2]


def test_a_reset_and_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two real runs at a time; one has a second run after it."""
    monkeypatch.setattr(trial, "LATEST_S", 0.3)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    tools = Tools(bundles.write_bundle(tmp_path / "bundle").folder, {})
    trials = [Trial(number, kind, 0, tmp_path / kind, tools) for number, kind in enumerate(("server reset", "SIGKILL"))]
    results = run_all(trials, 2, tmp_path / "trials.jsonl")
    assert [result.problems for result in results] == [[], []]
    assert {result.ended for result in results} == {"recovered"}
    assert not (tmp_path / "SIGKILL").exists()  # what went well leaves nothing
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_fault_of_each_kind(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle").folder
    command = [sys.executable, "-m", "edgeprune.lab.faults", "--faults", str(len(KINDS)), "--seed", "3"]
    done = subprocess.run(
        [*command, "--bundle", str(bundle), "--keep", str(tmp_path / "kept")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in (tmp_path / "kept" / "trials.jsonl").read_text().splitlines()]
    assert len(results) == len(KINDS) and all(not result["problems"] for result in results)
    left_out = "no faults of disks" in done.stderr or "that can be preloaded" in done.stderr
    assert left_out or {result["kind"] for result in results} == set(KINDS)
    assert done.stdout.splitlines()[-1].split()[:2] == ["all", str(len(KINDS))]


# --- the checks: each finds what it is for ---

Make = Callable[..., Child]


@pytest.fixture
def child(tmp_path: Path) -> Make:
    """child(indices, printed=, said=): what is left of a run that recorded these."""

    def make(indices: range = range(3), printed: str = "", said: str = "") -> Child:
        made = Child.__new__(Child)
        made.outputs, made.temporary, made.mark = tmp_path, tmp_path / "tmp", "none"
        made._out, made._err = tmp_path / "out", tmp_path / "err"
        made._out.write_text(printed), made._err.write_text(said)
        made.process = cast(Any, SimpleNamespace(poll=lambda: 3, returncode=3))
        if indices:
            record = Record(tmp_path / "rows.csv")
            for index in indices:
                record.add(cast(Any, None), row(index))
            record.close()
        return made

    return make


def test_rows_that_are_gone_or_damaged(child: Make) -> None:
    made = child()
    before = made.lines()
    assert len(made.rows()) == 3 and not list(checks.check_record(made, before))
    [file] = made.record_files()
    file.write_bytes(b"".join([before[0], before[1], b"1,2\n", before[3]]))
    gone, unread, *_ = checks.check_record(made, before)
    assert "1 of 4 lines that were written before are gone" in gone and unread.startswith("report: ")


def test_rows_that_do_not_add_up(child: Make) -> None:
    rows = child().rows()
    assert not list(checks.check_rows(rows))
    [found] = checks.check_rows([rows[0], rows[2]])
    assert "row 2 follows 0, and 0 were dropped" in found
    assert "its times are out of order" in next(checks.check_rows([rows[0], {**rows[1], "start_ns": "-5"}]))
    with pytest.raises(Failed, match="it ended with exit code 3"):
        child().wait_for_rows(9, 0, 5)


def test_words_of_a_run_that_failed(child: Make) -> None:
    assert not list(checks.check_words(child(said="frame 9\nedgeprune: the disk is full\n"), 3))
    assert not list(checks.check_words(child(said="stopped\n"), 0))
    for said, code in (
        ("Traceback (most recent call last):\n", 1),
        ("frame 9\n", 3),
        ("edgeprune: one\nedgeprune: two\n", 3),
        ("edgeprune: failed\n", 0),
    ):
        assert list(checks.check_words(child(said=said), code)), said


def test_a_summary_that_disagrees_with_the_record(child: Make, tmp_path: Path) -> None:
    summary = {"frames": 3, "dropped": 0, "ended": "interrupted", "record": str(tmp_path / "rows.csv"), "out": None}

    def found(code: int = 0, **changes: Any) -> list[str]:
        made = child(printed=json.dumps(summary | changes))
        return list(checks.check_summary(made, made.rows(), code))

    assert not found()
    made = child(printed=json.dumps(summary | {"camera": {"reconnects": 0}}))
    assert "counts 0 reconnections" in next(checks.check_summary(made, made.rows(), 0, least_reconnects=1))
    assert "2 frames (0 dropped), the record 3" in found(frames=2)[0]
    assert found(out=str(tmp_path / "film.mp4")) == [f"{tmp_path / 'film.mp4'} of the summary is not there"]
    assert "though the run failed" in found(code=3, ended="failure")[0]
    assert "is no JSON" in next(checks.check_summary(child(printed="no"), [], 0))


def test_what_is_left_behind(child: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "END_S", 0.1)
    made = child()
    assert not list(checks.check_left(made, 0, {"/dev/shm/none"})) and not list(checks.check_names(made))
    made.temporary.mkdir()
    for path in (made.temporary / "of-a-library", tmp_path / ".rows.lock", tmp_path / "a.partial.csv"):
        path.touch()
    with subprocess.Popen(["sleep", "60"], env={"EDGEPRUNE_FAULT_TRIAL": made.mark, "PATH": "/usr/bin:/bin"}) as left:
        time.sleep(0.05)
        found = list(checks.check_left(made, 0, {str(tmp_path / "err")}))
        left.kill()
    assert [line.split(":")[0] for line in found] == [
        "1 processes are left",
        "temporary files are left",
        "shared memory is left",
        "locks are left",
    ]
    assert list(checks.check_names(made)) == ["partial names are left: a.partial.csv"]


def test_a_video_that_is_too_short(child: Make, tmp_path: Path) -> None:
    made = child(range(0, 200, 40))  # 0.4 s from one to the next
    assert not list(checks.check_video(made, made.rows(), 0))
    (tmp_path / "film.mp4").write_bytes(b"moof")
    played, short = checks.check_video(made, made.rows(), 10**18)
    assert "can't be played" in played and short == "the video has 0 frames, at least 2 expected"


def test_a_table_of_the_kinds() -> None:
    results = [Result(0, "stall", "", "recovered", 2.0, []), Result(1, "SIGTERM", "", "failed", 0.5, ["why"])]
    assert [tuple(line.values()) for line in summarise(results)] == [
        ("stall", 1, 1, 0, 0, 2.0),
        ("SIGTERM", 1, 0, 0, 1, 0.5),
        ("all", 2, 1, 0, 1, 2.0),
    ]


def test_the_camera_comes_back_at_its_address_and_is_damaged_as_asked() -> None:
    camera = WebCamera()
    first = open_source(camera.uri)
    assert next(iter(first)).image_HW3.shape == (64, 96, 3)
    first.close()
    camera.unplug()
    with pytest.raises(Exception, match="refused"):
        open_source(camera.uri)
    camera.plug()
    camera.damage(random.Random(0))
    again = open_source(camera.uri)
    assert next(iter(again)).image_HW3.shape == (64, 96, 3)
    again.close()
    camera.close()
    whole = jpegs(1)[0]
    assert all(damaged(whole, random.Random(seed)) != whole for seed in range(20))


def test_a_clock_that_is_set(tmp_path: Path) -> None:
    try:
        library = compiled("clock", tmp_path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler ({error})")
    (tmp_path / "clock").write_text("-86400")
    code = "import time, datetime; print(time.time(), datetime.datetime.now().timestamp(), time.monotonic())"
    environment = {"LD_PRELOAD": str(library), "FAKE_CLOCK": str(tmp_path / "clock")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    one, other, monotonic = map(float, done.stdout.split())
    assert abs(one + 86400 - time.time()) < 60 and abs(other - one) < 1 and abs(monotonic - time.monotonic()) < 60

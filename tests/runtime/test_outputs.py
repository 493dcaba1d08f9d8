"""A frame is in all outputs or in none; the end of one is no concern of the others."""

import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.ending import end_on_signals
from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.outputs import Outputs
from edgeprune.runtime.row import Row
from edgeprune.runtime.sinks import SINKS, Sink, outputs_of
from edgeprune.runtime.sinks.record import Record
from edgeprune.runtime.tasks import Result
from tests.runtime.loop.fakes import Scripted
from tests.runtime.rows import read, row
from tests.runtime.sinks.found import Found

NAMES = {"record": "rows.csv", "labels": "labels"}


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outputs:
    monkeypatch.chdir(tmp_path)
    return Outputs(NAMES, Scripted(0))


def test_the_record_comes_last_and_says_what_the_others_took(outputs: Outputs) -> None:
    outputs.add(Found(0, "a.png"), row(0, name="a.png"))
    outputs.end(failed=False)
    [cells] = read("rows.csv")
    assert cells["name"] == "a.png" and float(cells["encode_ms"]) > 0
    assert outputs.ledger.ms("encode_ms")[0] == float(cells["encode_ms"])
    assert next(iter(outputs.paths())) == "record" and "call" not in outputs.paths()
    assert {key: path for key, path in outputs.paths().items() if path} == NAMES


def test_a_frame_that_one_can_not_take_is_in_no_row(outputs: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs.add(Found(0), row(0))
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: np.zeros(1).tofile("/dev/full"))
    with pytest.raises(RunError, match="cannot write on to labels"):
        outputs.add(Found(1), row(1))
    outputs.end(failed=True)
    assert len(outputs.ledger) == len(read("rows.partial.csv")) == len(list(Path("labels.partial").iterdir())) == 1


def test_a_signal_waits_until_a_frame_is_in_all(outputs: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Record.add

    def signalled(record: Record, result: Result, row: Row) -> Row:
        signal.raise_signal(signal.SIGTERM)
        return add(record, result, row)

    monkeypatch.setattr(Record, "add", signalled)
    end_on_signals()
    try:
        with pytest.raises(KeyboardInterrupt):
            outputs.add(Found(0), row(0))
    finally:
        end_on_signals()  # forgets that one came
    outputs.end(failed=False)
    assert len(outputs.ledger) == len(read("rows.csv")) == len(list(Path("labels").iterdir())) == 1


def test_a_hard_stop_waits_for_what_is_written_and_not_for_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes from another thread, while a function of the user's own hangs."""
    monkeypatch.chdir(tmp_path)

    class Hanging(Sink):
        def add(self, result: Result, row: Row) -> Row:
            stop = threading.Thread(target=begun.end, args=(False,))
            stop.start()
            stop.join(10)
            assert not stop.is_alive()
            raise RunError("it came back")

    monkeypatch.setitem(SINKS, "call", SINKS["call"]._replace(output=lambda name: None, open=lambda *_: Hanging()))
    begun = Outputs({**NAMES, "call": "robot:publish"}, Scripted(0))
    with pytest.raises(RunError, match="it came back"):
        begun.add(Found(0), row(0))
    assert list(tmp_path.iterdir()) == [] and len(begun.ledger) == 0


def test_outputs_without_a_frame_leave_those_of_an_earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a run is ended from outside within its first frame."""
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("of yesterday\n")
    Outputs({"record": "rows.csv"}, Scripted(0)).end(failed=False)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"] and Path(
        "rows.csv"
    ).read_text() == "of yesterday\n"


def test_outputs_that_are_in_each_others_way(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels/rows.csv lies in .*labels, which another output has for itself"):
        outputs_of({"labels": str(tmp_path / "labels"), "record": str(tmp_path / "labels" / "rows.csv")})
    with pytest.raises(InputError, match=f"unknown sink 'recrod'; choices: {', '.join(SINKS)}; did you mean 'record'"):
        outputs_of({"recrod": "rows.csv"})


def test_nothing_is_left_where_one_can_not_be_begun(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the record"):
        Outputs({"labels": str(tmp_path / "labels"), "record": str(tmp_path / "file" / "rows.csv")}, Scripted(0))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

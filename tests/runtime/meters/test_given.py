"""Meters that a person describes: a command that prints watts, a file that holds them."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.bundle.runtime_spec import Power
from edgeprune.runtime.meters import GIVEN, NoSensor, command, meters, open_typed
from edgeprune.runtime.meters.command import CommandMeter
from edgeprune.runtime.meters.written import MOST_W, parse_watts
from edgeprune.runtime.preparing import open_sensor
from tests import bundles
from tests.runtime.meters.waiting import wait_until

Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """program("text of a shell script") -> what to type."""

    def write(text: str) -> str:
        path = tmp_path / f"meter {len(list(tmp_path.iterdir()))}.sh"  # a space in its name
        path.write_text(f"#!/bin/sh\necho $$ >> {shlex.quote(str(tmp_path / 'pids'))}\n{text}\n")
        path.chmod(0o700)
        return f"command:{shlex.quote(str(path))}"

    return write


@pytest.fixture(autouse=True)
def no_program_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    pids = tmp_path / "pids"
    for pid in pids.read_text().split() if pids.exists() else ():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


FEW = settings(max_examples=100, deadline=None, database=None, derandomize=True)
STEADY = "while :; do echo {}; sleep 0.02; done"


# --- what is written ---


@pytest.mark.parametrize(
    ("text", "watts"),
    [("5.2", 5.2), (" 5 W\r", 5.0), ("5200 mW", 5.2), ("5200000uW", 5.2), ("-.5", -0.5), ("1e1", 10.0), ("3.µW", 3e-6)],
)
def test_powers(text: str, watts: float) -> None:
    assert parse_watts(text) == pytest.approx(watts)


@pytest.mark.parametrize(
    "text", ["", "W", "nan", "inf", "5 V", "5,2", "5 6", "power: 5", "0x10", "\u0661", "5200000", "1e999"]
)
def test_what_is_no_power(text: str) -> None:
    with pytest.raises(ValueError, match="expected watts, as 5.2, or with their unit, as 5200 mW"):
        parse_watts(text)


@FEW
@given(st.one_of(st.text(), st.from_regex(r"[-+0-9.eE]+ ?[muWµ]*"), st.floats().map(str)))
def test_whatever_is_written_is_a_power_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert abs(parse_watts(text)) <= MOST_W


@FEW
@given(st.binary(max_size=200))
def test_whatever_a_file_holds_is_a_power_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    held = tmp_path_factory.getbasetemp() / "held"
    held.write_bytes(content)
    with suppress(InputError):
        assert open_typed(f"file:{held}").name == "file"


# --- a command ---


def test_a_program_that_goes_on_printing(program: Program) -> None:
    meter = open_typed(program(STEADY.format("'5000 mW'")))
    for _ in range(2):
        meter.start()
        wait_until(lambda: meter.watts() is not None)
        assert meter.watts() == pytest.approx(5.0)
        energy = meter.stop()
        assert energy.joules == pytest.approx({"power": 5.0 * energy.seconds}) and energy.total_of == ("power",)
        assert energy.total_j == energy.joules["power"] and energy.samples >= 2 and energy.sampling_hz
        assert energy.status.endswith(".sh prints (a command of the user's)")
    assert meter.watts() is None


def test_a_program_that_prints_and_ends_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "RUN_AGAIN_S", 0.01)
    held = tmp_path / "power"
    held.write_text("4")  # without a line's end
    meter = open_typed(f"command:cat {held}")
    meter.start()
    wait_until(lambda: meter.watts() == pytest.approx(4.0))
    held.write_text("8\n")
    wait_until(lambda: (meter.watts() or 0) > 4.1)
    energy = meter.stop()
    assert energy.total_j is not None and 4 * energy.seconds < energy.total_j < 8 * energy.seconds


def test_lines_count_when_they_arrive_and_the_last_one_holds(tmp_path: Path) -> None:
    """3 W for 0.4 s, then 5 W until `stop` 0.4 s later, of which the program says no more: the trapezoid between the two lines,
    then the second one held."""
    script = "import sys, time\nprint(3, flush=True)\ntime.sleep(0.4)\nprint(5, flush=True)\ntime.sleep(60)"
    meter = CommandMeter([sys.executable, "-c", script])
    meter.start()
    wait_until(lambda: meter.watts() is not None)
    time.sleep(0.4)
    energy = meter.stop()
    assert energy.samples == 2
    assert energy.total_j == pytest.approx(4 * 0.4 + 5 * (energy.seconds - 0.4), rel=0.05)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo 'Power now:'", r"meter \d.sh printed 'Power now:' is no power; expected watts"),
        ("echo 5000000", "printed '5000000' would be 5,000,000 W; expected watts"),
        ("exit 3", "ended with exit code 3"),
        ("kill -9 $$", "ended by signal 9"),
        (":", "printed nothing; it is to print watts, a number a line: run it in a shell first$"),
        ("head -c 10000 /dev/zero | tr '\\0' x; sleep 60", "printed 'xxxx"),
        ("sleep 60", "printed nothing in 0 s; where it prints and nothing arrives, its output is buffered: python -u"),
        ("trap '' TERM; while :; do sleep 0.05; done", "printed nothing in 0 s"),
        ("exec >&-; sleep 0.2; exit 4", "ended with exit code 4"),
    ],
)
def test_a_program_that_is_no_meter(program: Program, monkeypatch: pytest.MonkeyPatch, text: str, why: str) -> None:
    silent = "in 0 s" in why
    monkeypatch.setattr(CommandMeter, "begin_s", 0.3 if silent else 10)
    monkeypatch.setattr(command, "BEGIN_S", 0.3)
    monkeypatch.setattr(command, "END_S", 0.2)
    with pytest.raises(NoSensor, match=rf"^--meter command: .*{why}"):
        open_typed(program(text))


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("command:", "names no program"),
        ("command: ", "names no program"),
        ("command", "--meter command: type 'command:PROGRAM ...'"),
        ("command:cat 'x", "No closing quotation; quote the whole"),
        ("command:no-such-program-here", r"no-such-program-here can't be run \(No such file or directory\)"),
        ("comand:cat", r"unknown energy meter 'comand:cat'; choices: auto, .*file:PATH; did you mean 'command'"),
    ],
)
def test_what_is_no_command(typed: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        open_typed(typed)


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    with pytest.raises(NoSensor):
        open_typed(f"command:echo 5; touch {tmp_path}/made")
    assert not (tmp_path / "made").exists()


def test_a_password_among_the_arguments_is_not_shown(program: Program) -> None:
    meter = open_typed(program(STEADY.format(5)) + " --password secret")
    meter.start()
    wait_until(lambda: meter.watts() is not None)
    assert "secret" not in meter.stop().status
    with pytest.raises(NoSensor) as refused:
        open_typed(program("exit 1") + " --password secret")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("then", ["exit 2", "echo broken; sleep 60", "sleep 60"])
def test_a_program_that_stops_answering_gives_no_number(
    program: Program, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    monkeypatch.setattr(command, "PATIENCE_S", 0.2)
    monkeypatch.setattr(command, "RUN_AGAIN_S", 60)
    meter = open_typed(program(f"echo 5; sleep 0.05; echo 5; sleep 0.05; {then}"))
    meter.start()
    wait_until(lambda: meter.watts() is not None)
    time.sleep(0.4)
    began_s = time.monotonic()
    energy = meter.stop()
    assert time.monotonic() - began_s < 10
    assert energy.total_j is None and energy.joules == {}
    assert energy.status.startswith("no energy sensor: command stopped answering (")


def test_a_line_that_is_none_is_bridged(program: Program) -> None:
    meter = open_typed(program("echo 5; while :; do sleep 0.02; echo oops; sleep 0.02; echo 5; done"))
    meter.start()
    time.sleep(0.3)
    wait_until(lambda: meter._now is not None and meter._now.failure is None)  # type: ignore[attr-defined]
    energy = meter.stop()
    if energy.joules:  # the newest line may be the broken one just then
        assert energy.total_j == pytest.approx(5 * energy.seconds)


def test_a_program_that_never_pauses_does_not_take_the_machine(program: Program) -> None:
    meter = open_typed("command:yes 5")
    meter.start()
    before_s = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before_s < 0.25
    energy = meter.stop()
    assert energy.sampling_hz is not None and energy.sampling_hz < 110


def test_a_program_that_will_not_end_is_ended(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "END_S", 0.2)
    meter = open_typed(program("trap '' TERM INT\n" + STEADY.format(5)))
    meter.start()
    wait_until(lambda: meter.watts() is not None)
    began_s = time.monotonic()
    assert meter.stop().total_j is not None
    assert time.monotonic() - began_s < 10


# --- a file ---


def test_a_file(tmp_path: Path) -> None:
    held = tmp_path / "power of the plug"
    held.write_text("3\n5.5 W\n")
    meter = open_typed(f"file:{held}")
    meter.start()
    wait_until(lambda: meter.watts() is not None)
    energy = meter.stop()
    assert energy.total_j == pytest.approx(5.5 * energy.seconds)
    assert energy.status == f"measured by what {held} says, read 9 times a second"
    assert energy.sampling_hz is not None and energy.sampling_hz < 30


@pytest.mark.parametrize(("name", "watts"), [("power1_input", 7.0), ("power_now", 7.0), ("power2_average", 7.0)])
def test_a_file_of_the_kernels_is_in_microwatts(tmp_path: Path, name: str, watts: float) -> None:
    (tmp_path / name).write_text("7000000\n")
    meter = open_typed(f"file:{tmp_path / name}")
    meter.start()
    energy = meter.stop()
    assert energy.total_j == pytest.approx(watts * energy.seconds)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file:", "names no file; type it behind the colon"),
        ("file:FOLDER/none", r"none is not there; check the path$"),
        ("file:FOLDER/pipe", r"is a pipe; name a file; of a pipe, a device or a log that grows: command:cat "),
        ("file:FOLDER/text", r"'five' is no power; expected watts"),
        ("file:FOLDER/empty", r"'' is no power"),
        ("file:/dev/zero", "is a device"),
        ("file:FOLDER", "is a folder"),
    ],
)
def test_what_is_no_file_of_watts(tmp_path: Path, name: str, why: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("five\n")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InputError, match=why):
        open_typed(name.replace("FOLDER", str(tmp_path)))


def test_a_file_that_goes_away_gives_no_number(tmp_path: Path) -> None:
    held = tmp_path / "power"
    held.write_text("5")
    meter = open_typed(f"file:{held}")
    meter.start()
    held.unlink()
    assert "is not there" in meter.stop().status


# --- who may name one ---


def test_a_bundle_can_name_neither(tmp_path: Path) -> None:
    """It would choose a program of this machine."""
    made = tmp_path / "made"
    bundle = bundles.write_bundle(tmp_path / "bundle")
    assert not set(GIVEN) & set(meters())
    for kind in GIVEN:
        named = Power(meter=f"{kind}:touch {made}")
        target = bundle.manifest.target.model_copy(update={"power": named})
        changed = Bundle(bundle.folder, bundle.manifest.model_copy(update={"target": target}))
        with pytest.raises(InputError, match="unknown energy meter"):
            open_sensor(changed, None)
        assert not made.exists()


def test_a_given_meter_has_no_use_for_the_rails_of_a_board(tmp_path: Path) -> None:
    (tmp_path / "power").write_text("5")
    meter = open_typed(f"file:{tmp_path / 'power'}", rails=["VDD_IN"], total_of=["VDD_IN"])
    meter.start()
    assert meter.stop().total_of == ("power",)

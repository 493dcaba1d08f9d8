"""What the system refuses is one line and an exit code, as bad input is; never a traceback."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from edgeprune.base.errors import InputError, one_line
from edgeprune.cli import commands, main, run
from edgeprune.cli.ranges import parse_size
from tests.cli.conftest import Said, Type
from tests.cli.test_bad_input import assert_one_line

OS_ERRORS: list[tuple[BaseException, str, int]] = [
    (PermissionError(errno.EACCES, "Permission denied", "/srv/secret"), "/srv/secret: Permission denied", 2),
    (OSError(errno.ENAMETOOLONG, "File name too long", b"\xff" * 3), "File name too long", 2),
    (OSError(errno.ENOSPC, "No space left on device"), "No space left on device", 3),
    (OSError(errno.ENOSPC, "No space left on device", "a"), "a: No space left on device", 3),
    (OSError(errno.EIO, "Input/output error", "/dev/sda"), "/dev/sda: Input/output error", 3),
    (OSError("of a library"), "of a library", 3),
    (MemoryError(), "not enough memory; close other programs", 3),
]


def invoke_failing(edgeprune: Type, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Said:
    def fail() -> None:
        raise error

    monkeypatch.setattr("edgeprune.cli.targets.targets", click.Command("targets", callback=fail))
    return edgeprune("targets")


@pytest.mark.parametrize(("error", "words", "code"), OS_ERRORS)
def test_what_the_system_refuses(
    edgeprune: Type, monkeypatch: pytest.MonkeyPatch, error: BaseException, words: str, code: int
) -> None:
    said = invoke_failing(edgeprune, monkeypatch, error)
    assert said.err == f"edgeprune: {said.err[len('edgeprune: ') :]}" and said.err.count("\n") == 1
    assert_one_line(said, words, code=code)


def test_a_fault_of_ours_keeps_its_traceback(edgeprune: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError):
        invoke_failing(edgeprune, monkeypatch, KeyError("bug"))


def test_ctrl_c_while_importing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Stopped:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "edgeprune.cli.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "edgeprune.cli.commands")
    monkeypatch.setattr(sys, "meta_path", [Stopped(), *sys.meta_path])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130 and capsys.readouterr().err == "stopped\n"


IMPORTING = """
import sys, time
class Slow:  # what comes behind our own first line takes long
    def find_spec(self, name, *_):
        if name == SLOW:
            print("importing", file=sys.stderr, flush=True)
            time.sleep(30)
sys.meta_path.insert(0, Slow())
from edgeprune.cli import main
main()
"""


@pytest.mark.parametrize(
    ("number", "slow"), [(signal.SIGINT, "edgeprune.cli.commands"), (signal.SIGTERM, "edgeprune.bundle.manifest")]
)
def test_a_run_that_is_stopped_while_importing_is_stopped_as_any_other(number: signal.Signals, slow: str) -> None:
    for verb, code, line, out in (
        ("run", 0, "stopped before the first frame; nothing was recorded\n", {"frames": 0, "ended": "interrupted"}),
        ("eval", 130, "stopped\n", None),
    ):
        process = subprocess.Popen(
            [sys.executable, "-c", IMPORTING.replace("SLOW", repr(slow)), verb, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr and process.stderr.readline() == "importing\n"
            process.send_signal(number)
            said, complaint = process.communicate(timeout=600)
        assert (process.returncode, complaint) == (code, line)
        assert (json.loads(said) if said else None) == out


@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_a_run_that_is_stopped_while_it_opens(
    edgeprune: Type, monkeypatch: pytest.MonkeyPatch, json_: list[str]
) -> None:
    """A library may make an error of its own of Ctrl-C; without a signal, an error is one."""

    def fail(bundle: object) -> None:
        raise InputError("onnxruntime cannot be imported")

    monkeypatch.setattr(run, "open_default", fail)
    assert_one_line(edgeprune("run", *json_), "onnxruntime cannot be imported")
    monkeypatch.setattr(run, "asked", lambda: True)
    said = edgeprune("run", *json_)
    assert (said.code, said.err) == (0, "stopped before the first frame; nothing was recorded\n")
    assert said.out == ('{"frames": 0, "ended": "interrupted"}\n' if json_ else "")


def test_an_empty_word_is_a_variable_that_is_not_set(edgeprune: Type, tiny: Path) -> None:
    run = ("run", "--bundle", tiny, "--frames", 1)
    for option in ("--bucket", "--meter", "--engine", "--camera", "--out", "--record", "--bundle"):
        assert_one_line(
            edgeprune(*run, option, ""), f"{option} is empty (a variable that is not set?); give it a value"
        )
        assert_one_line(edgeprune(*run, f"{option}="), f"{option} is empty")
    assert_one_line(edgeprune("lint", ""), "an argument is empty")


def test_names_of_outputs_are_looked_at_first(edgeprune: Type) -> None:
    """Before a bundle is read and compiled for minutes."""
    for out, said in (("..", "such as ../overlay.mp4"), (".mp4", "type overlay.mp4"), ("a.avi", "type a.mp4")):
        assert_one_line(edgeprune("run", "--out", out), said)
    for record, said in (("..", "such as ../rows.csv"), (".csv", "type rows.csv"), ("a.xls", "choices: .csv, .jsonl")):
        assert_one_line(edgeprune("run", "--record", record), said)


def test_a_working_folder_that_was_removed(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    for words in ("run", "show"):
        done = in_a_shell(f"{words} --out a.mp4", cwd=tmp_path, inside="mkdir -p gone; cd gone; rmdir ../gone;")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "edgeprune: the folder that you are in was removed; type cd and the path of another one\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_progress_that_nobody_reads_ends_nothing() -> None:
    code = (
        "import logging; from edgeprune.base.progress import shown_progress\n"
        "with shown_progress(): logging.getLogger('edgeprune.run').info('frame 20'); print('went on')"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_ctrl_c_in_a_verb(edgeprune: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    said = invoke_failing(edgeprune, monkeypatch, KeyboardInterrupt())
    assert said.code == 130 and said.err.split() == ["stopped"]


CODE = "from edgeprune.cli import main; main()"


def in_a_shell(words: str, inside: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    line = f"{inside} {sys.executable} -c '{CODE}' {words}"
    return subprocess.run(line, shell=True, capture_output=True, text=True, timeout=600, **options)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_standard_output_on_a_full_disk() -> None:
    done = in_a_shell("targets > /dev/full")
    assert (done.returncode, done.stderr) == (3, "edgeprune: No space left on device\n")


def test_standard_output_that_nobody_reads() -> None:
    done = in_a_shell("targets | sleep 0; exit ${PIPESTATUS[0]}", executable="/bin/bash")
    assert (done.returncode, done.stderr) == (3, "")


def test_options_of_no_sense_are_one_line(edgeprune: Type, tiny: Path) -> None:
    run = ("run", "--bundle", tiny)
    for words in (
        ("--seconds", "nan"), ("--seconds", "inf"), ("--seconds", "-1"), ("--seconds", "0"), ("--idle", "nan"),
        ("--idle", "-1"), ("--idle", "1e9"), ("--threads", "0"), ("--threads", "1000000000"), ("--frames", "9" * 30),
        ("--frames", "many"), ("--no-such-option",),
    ):  # fmt: skip
        said = edgeprune(*run, *words)
        assert said.code == 2 and said.err.startswith("edgeprune run: ") and said.err.count("\n") == 1, said
        assert words[0] in said.err and said.err.endswith("; see edgeprune run --help\n"), said


@pytest.mark.parametrize("size", ["1600000x1600000", "4096x4096", "16x512", "384x500", "384", "384x512x3", "-384x512",
                                  "9" * 5000 + "x512", "²x512", "384x512.0", "x"])  # fmt: skip
def test_sizes_of_no_sense(size: str) -> None:
    with pytest.raises(InputError, match="write it as 384x512"):
        parse_size(size)


def test_sizes_that_are_built() -> None:
    assert parse_size("384x512") == (384, 512) and parse_size("2048X2048") == (2048, 2048)


def test_inputs_that_would_block(edgeprune: Type, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.pipe.OPEN_TIMEOUT_S", 0.1)
    os.mkfifo(tmp_path / "fifo.yaml")
    os.mkfifo(tmp_path / "fifo")
    said = "is a pipe; name a file"
    assert_one_line(edgeprune("data", "lint", "fifo.yaml"), said)
    assert_one_line(edgeprune("lint", "fifo"), said)
    assert_one_line(edgeprune("run", "--bundle", tiny, "--camera", "fifo"), "start what writes to it")
    assert_one_line(edgeprune("build", "--checkpoint", "fifo"), said)
    assert_one_line(edgeprune("bench", "--bundle", tiny, "--baseline", "fifo"), said)
    assert_one_line(edgeprune("train", "fifo.yaml"), said)
    (tmp_path / "manifest.json").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "manifest.json")
    assert_one_line(edgeprune("inspect", tmp_path), said)


def test_names_that_are_too_long(edgeprune: Type, tiny: Path) -> None:
    long = "x" * 300
    for words in (
        ("data", "lint", f"{long}.yaml"), ("data", "lint", long), ("lint", f"{long}.onnx"), ("inspect", long),
        ("run", "--bundle", tiny, "--camera", long), ("build", "--checkpoint", long), ("train", long),
        ("run", "--bundle", tiny, "--camera", "1" * 5000),
    ):  # fmt: skip
        assert_one_line(edgeprune(*words))


def test_a_message_is_one_line_of_a_terminal() -> None:
    assert one_line("a\n b\x1b[31m\udcff\x9b é") == "a b\\x1b[31m\\udcff\\x9b é"


def test_a_graph_that_a_rule_cannot_judge(edgeprune: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a rule stumbles over in somebody's graph names the rule."""
    from edgeprune.export import lint
    from tests import bundles

    def stumble(*_: object) -> Iterator[str]:
        raise KeyError(99)

    bundles.write_tail(tmp_path / "a.onnx", 1)
    monkeypatch.setitem(lint.RULES, "opset", dataclasses.replace(lint.RULES["opset"], check=stumble))
    assert_one_line(edgeprune("lint", "a.onnx"), "a.onnx: rule opset can't judge it (KeyError: 99)", "report it")


def test_a_failure_without_standard_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "rows.csv")

    monkeypatch.setattr(commands.edgeprune, "main", fail)
    monkeypatch.setattr(sys, "stdout", None)
    assert commands.run_command() == 2
    assert capsys.readouterr().err == "edgeprune: rows.csv: Permission denied\n"


def test_a_service_without_standard_output() -> None:
    code = "import sys; from edgeprune.cli import main; sys.argv = ['edgeprune', '--version']; main()"
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "{code}" >&-'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "run --bundle {bundle} --camera {frames} --record {loop}/x.csv",
        "run --bundle {bundle} --camera {frames} --areas {loop}.jsonl",
        "run --bundle {bundle} --camera {frames} --out {loop}/",
        "report {frames} --out {loop}/x.png",
        "energy --bundle {bundle} --out {loop}/x",
        "bench --bundle {bundle} --out {loop}",
        "data show street --out {loop}/x.png",
    ],
)
def test_an_output_behind_a_link_to_itself(
    edgeprune: Type, tiny: Path, frames: Path, tmp_path: Path, words: str
) -> None:
    for name in ("loop", "loop.jsonl"):
        (tmp_path / name).symlink_to(name)
    said = edgeprune(*words.format(bundle=tiny, frames=frames, loop=tmp_path / "loop").split())
    assert said.code == 2 and said.err.count("\n") == 1 and "Traceback" not in said.err
    assert "leads through a link that leads to itself" in said.err


@pytest.mark.parametrize(
    "line",
    [
        "bundle: ~nobody-here/b",
        "record: ~nobody-here/x.csv",
        "camera: ~nobody-here/x.mp4",
        "meter: file:~nobody-here/x",
    ],
)
def test_the_home_of_nobody(edgeprune: Type, tmp_path: Path, line: str) -> None:
    (tmp_path / "run.yaml").write_text(line + "\n")
    assert_one_line(edgeprune("run", "--config", tmp_path / "run.yaml"), "there is no user 'nobody-here'")

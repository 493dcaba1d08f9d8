"""Each step in a process of its own: what it leaves, how it ends, and that the rest goes on."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import Bundle
from edgeprune.bundle.target import load_target
from edgeprune.runtime.first_hour import __main__ as first_hour
from edgeprune.runtime.first_hour import runner
from edgeprune.runtime.first_hour.__main__ import main
from edgeprune.runtime.first_hour.checklist import checklist
from edgeprune.runtime.first_hour.runner import (
    STEP_FILE,
    Difference,
    differences,
    do_step,
    figures,
    run_checklist,
    start_results,
    work_folder,
)
from edgeprune.runtime.first_hour.step import Job, NotHere, Step, Waits
from tests import bundles
from tests.runtime.engines.jetson import VERSIONS

# a step's process that does as its name says, without Python's longer imports
CHILD = """
import json, os, subprocess, sys, time
folder, name = sys.argv[1:]
with open(folder + "/tried", "a") as tried:
    tried.write(name + "\\n")
def leave(status, reason=None, found=None):
    json.dump({"status": status, "reason": reason, "found": found}, open(folder + "/FILE", "w"))
if name == "good":
    leave("done", found={"ms": 2.5, "cache": os.environ["EDGEPRUNE_CACHE"]})
elif name == "bad":
    leave("failed", "TensorRT can't build it")
elif name == "waiting":
    leave("waits", "change the power mode")
elif name == "crash":
    print("terminate called after throwing an instance of std::bad_alloc", flush=True)
    os.abort()
elif name == "late":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(folder + "/grandchild", "w").write(str(child.pid))
    time.sleep(60)
elif name == "silent":
    sys.exit(7)
""".replace("FILE", STEP_FILE)


def steps(*names: str) -> list[Step]:
    return [Step(name, "Well?", 0.02 if name == "late" else 1, lambda job: {}) for name in names]


@pytest.fixture
def run(bundle: Bundle, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def start(*names: str) -> dict[str, Any]:
        out = tmp_path / "results.json"
        command = [sys.executable, "-S", "-c", CHILD, str(work_folder(out))]
        said = run_checklist(steps(*names), bundle, out, command)
        assert json.loads(out.read_text()) == said
        return said["steps"]

    return start


def test_what_fails_is_written_down_and_the_rest_goes_on(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    rows = run("crash", "bad", "silent", "late", "waiting", "good")
    assert {name: row["status"] for name, row in rows.items()} == {
        "crash": "failed", "bad": "failed", "silent": "failed", "late": "out of time", "waiting": "waits", "good": "done",
    }  # fmt: skip
    assert rows["crash"]["reason"] == (
        "its process ended with signal SIGABRT: terminate called after throwing an instance of std::bad_alloc"
    )
    assert rows["bad"]["reason"] == "TensorRT can't build it"
    assert rows["silent"]["reason"] == "its process ended with exit code 7: no reason given"
    assert rows["late"]["reason"].startswith("not done after 0.02 min; see ")
    assert rows["waiting"]["reason"] == "change the power mode"
    assert rows["good"]["found"] == {"ms": 2.5, "cache": str(tmp_path / "results/cache")}
    assert rows["good"]["machine"]["clocks"]["memory"]["mhz"] is None and rows["good"]["at"].endswith("+00:00")
    grandchild = tmp_path / "results/grandchild"  # not there where this machine was too slow to start it
    assert not grandchild.exists() or not alive(int(grandchild.read_text() or 0))


def alive(process: int) -> bool:
    """A process that is gone may be waited for yet, by init."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")")[1].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True


def test_the_same_command_goes_on_where_it_was_left(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    run("good", "bad", "waiting")
    rows = run("good", "bad", "waiting", "silent")
    tried = (tmp_path / "results/tried").read_text().split()
    assert tried == ["good", "bad", "waiting", "bad", "waiting", "silent"]  # what is done stays
    assert list(rows) == ["good", "bad", "waiting", "silent"] and rows["good"]["found"]["ms"] == 2.5


def test_results_of_something_else_are_not_mixed(
    run: Callable[..., dict[str, Any]], bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("good")
    monkeypatch.setattr(runner, "l4t_release", lambda: "39.2.0")
    out = tmp_path / "results.json"
    with pytest.raises(
        InputError, match=r"holds results of l4t None, here 39\.2\.0; jetpack None, here 7\.2; name another"
    ):
        run("good")
    other = bundles.write_bundle(tmp_path / "other", precisions=("fp32",))
    with pytest.raises(InputError, match=r"holds results of .*bundle \w+, here \w+"):
        start_results(other, out)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 1, "of": 3, "steps": {}}', '{"schema": 9}', "\xff"])
def test_a_file_that_is_no_results_file(run: Callable[..., dict[str, Any]], tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"results\.json"):
        run("good")
    assert (tmp_path / "results.json").read_text(encoding="latin-1") == content


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "done"),
        (RunError("it broke"), "failed"),
        (InputError("TensorRT can't read it"), "failed"),
        (NotHere("no trtexec"), "not here"),
        (Waits("change the mode"), "waits"),
    ],
)
def test_what_a_step_leaves(job: Job, error: Exception | None, status: str) -> None:
    def work(job: Job) -> dict[str, Any]:
        if error:
            raise error
        return {"ms": 1.0, "where": job.folder}

    do_step(Step("x", "Well?", 1, work), job)
    row = json.loads((job.folder / STEP_FILE).read_text())
    assert row["status"] == status and row["reason"] == (str(error) if error else None)
    assert row["found"] == (None if error else {"ms": 1.0, "where": str(job.folder)})


# ------------------------------------------------------------------------------------------------------- two boards


def test_figures_are_found_wherever_they_stand() -> None:
    found = {
        "p50_ms": 4.5,
        "ok": True,
        "plan": "x.plan",
        "free_mb": [1.0, 2.0],
        "layers": {"fused_attention": ["a", "b"], "count": 7},
        "rows": [{"bucket": "k480", "precision": "int8", "now_ms": 2.0, "why": None}],
    }
    assert figures(found) == {
        "p50_ms": 4.5, "ok": 1.0, "layers.fused_attention": 2.0, "layers.count": 7.0, "rows.k480.int8.now_ms": 2.0,
    }  # fmt: skip


def test_two_boards_side_by_side() -> None:
    first = {"steps": {"a": {"status": "done", "found": {"ms": 4.0}}, "b": {"status": "failed", "found": None}}}
    second = {
        "steps": {"a": {"status": "done", "found": {"ms": 3.0, "mb": 1}}, "b": {"status": "done", "found": {"x": 1}}}
    }
    assert differences(first, second) == [
        Difference("a", "ms", 4.0, 3.0),
        Difference("a", "mb", None, 1.0),
        Difference("b", "status", "failed", "done"),
        Difference("b", "x", None, 1.0),
    ]


# ------------------------------------------------------------------------------------------------------ the command line


def typed(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["first_hour", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_the_list_begins_with_what_finds_out_most(
    folder: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, folder, "--list") == 0
    names = [line[:32].strip() for line in capsys.readouterr().out.splitlines()]
    assert names == [step.name[:32].strip() for step in checklist(bundle)]
    assert [name for name in names if not name.startswith("trtexec ")] == [
        "doctor", "failure", "trunk fp32", "bucket fp32", "trunk and bucket int8", "labels, TF32 off", "labels, TF32 on",
        "latency dense", "latency full", "latency bucket", "latency bucket int8", "512 against 513 tokens",
        "CUDA graph against plain", "memory", "compile", "compile --again", "CSI", "power",
    ]  # fmt: skip
    graphs = [step.name.removeprefix("trtexec ") for step in checklist(bundle) if step.name.startswith("trtexec ")]
    assert len(graphs) == 10 and {"graphs/fp32-trunk.onnx", "graphs/dense.onnx", "graphs/int8-tail-half.onnx"} <= {
        *graphs
    }


def test_the_list_needs_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is that of a bundle as a Jetson's target makes it."""
    bundle = bundles.write_bundle(tmp_path / "bundle", precisions=("int8", "int8-mlp", "fp32"))
    assert typed(monkeypatch, "--list") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "trtexec" not in line]
    steps = [step for step in checklist(bundle) if not step.name.startswith("trtexec")]
    assert [line[:32].strip() for line in lines] == [step.name.replace("fp32", "fp16") for step in steps]
    assert [line[32:] for line in lines] == [step.question for step in steps]


@pytest.mark.parametrize(
    ("board", "target"),
    [
        ("NVIDIA Jetson AGX Orin Developer Kit", "jetson-agx-orin"),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "jetson-orin-nx"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "jetson-orin-nano"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "jetson-thor"),
        ("Some carrier board", "jetson-orin"),
        (None, "jetson-orin"),
    ],
)
def test_where_there_is_no_bundle_the_boards_own_target_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    board: str | None,
    target: str,
) -> None:
    monkeypatch.setattr(first_hour, "board_name", lambda: board)
    for words, said in (
        ((tmp_path / "no",), f"first_hour: no bundle: {tmp_path / 'no'} is not there; "),
        ((tmp_path, "--list"), f"first_hour: no bundle: {tmp_path} has no manifest.json; "),
        ((), "first_hour: name one bundle: "),
    ):
        assert typed(monkeypatch, *words) == 2
        line = capsys.readouterr().err
        assert line.startswith(said) and line.count("\n") == 1
        assert f"`edgeprune build --target {target}` makes it" in line and load_target(target).engine == "tensorrt"


def test_what_is_typed_wrongly(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        ((tmp_path / "nowhere",), "first_hour: no bundle: "),
        ((folder, "--only", "lunch"), "first_hour: there is no step 'lunch'; --list prints them"),
        ((), "first_hour: name one bundle"),
        ((folder, "--compare"), "first_hour: --compare takes two results files, not 1"),
        ((folder, "--lunch"), "python -m edgeprune.runtime.first_hour: No such option"),
        ((folder, "--lunch"), "; see python -m edgeprune.runtime.first_hour --help\n"),
    ):
        assert typed(monkeypatch, *words) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1


def test_what_the_system_refuses_is_one_line_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of the verbs: no second mapping of errors to exit codes."""
    for error, line, code in (
        (OSError(errno.ENOSPC, "No space left on device"), "first_hour: No space left on device\n", 3),
        (PermissionError(errno.EACCES, "Permission denied", "/srv"), "first_hour: /srv: Permission denied\n", 2),
        (KeyboardInterrupt(), "stopped; the same command goes on from here\n", 130),
    ):
        monkeypatch.setattr(first_hour, "run_checklist", Mock(side_effect=error))
        assert typed(monkeypatch, folder, "--out", tmp_path / "x.json") == code
        assert capsys.readouterr().err.endswith(line)


def test_a_variable_that_says_nothing_is_told_before_hours_are_spent(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEPRUNE_WORKSPACE_MB", "1GB")
    assert typed(monkeypatch, folder) == 2
    assert capsys.readouterr().err.startswith("first_hour: EDGEPRUNE_WORKSPACE_MB is '1GB'; expected megabytes")


def test_comparing_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, release, jetpack, ms in (("a", "36.4.3", "6.2", 4.0), ("b", "39.2.0", "7.2", 3.0)):
        row = {"status": "done", "found": {"p50_ms": ms}}
        of = {"board": "Orin Nano", "l4t": release, "jetpack": jetpack}
        content = {"schema": 1, "of": of, "steps": {"latency dense": row}}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert typed(monkeypatch, "--compare", tmp_path / "a.json", tmp_path / "b.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Orin Nano, JetPack 6.2 (L4T 36.4.3)" in lines[0] and "JetPack 7.2" in lines[0]
    assert lines[2].split() == ["latency", "dense", "p50_ms", "4", "3"]


# a check list whose first step says which process it is, and never ends
ENDLESS = """
import sys
sys.path.insert(0, REPOSITORY)
from edgeprune.runtime.first_hour import __main__ as first_hour
child = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
first_hour.this_python = lambda *words: [sys.executable, "-S", "-c", child]
sys.argv = ["first_hour", BUNDLE, "--only", "doctor", "--out", OUT]
first_hour.main()
"""


# the signal comes before the check list knows the process
EARLY = """
import os, signal, subprocess, time
popen = subprocess.Popen
def start(command, **options):
    process = popen(command, **options)
    if "-S" in command:
        while not open(OUT.replace(".json", "/doctor.log")).read().endswith("\\n"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
    return process
subprocess.Popen = start
"""


@pytest.mark.parametrize("before", ["", EARLY])
def test_sigterm_ends_the_step_too(folder: Path, tmp_path: Path, before: str) -> None:
    script = before + ENDLESS.replace("REPOSITORY", repr(str(Path(__file__).parents[3])))
    script = script.replace("BUNDLE", repr(str(folder))).replace("OUT", repr(str(tmp_path / "x.json")))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    log = tmp_path / "x" / "doctor.log"
    try:
        while process.poll() is None and not (log.is_file() and log.read_text().endswith("\n")):
            time.sleep(0.05)
        if not before:
            process.terminate()
        _, said = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 130 and said.endswith("stopped; the same command goes on from here\n")
    assert not alive(int(log.read_text()))


# what makes a child process a board: the fakes in the place of JetPack's libraries
SITE = """
import sys
sys.path.insert(0, REPOSITORY)
from tests.runtime.engines import fake_tensorrt
from tests.runtime.engines.fake_cuda import FakeCudart
from edgeprune.runtime.engines import cuda
from edgeprune.runtime.first_hour import on_board, on_engine
cudart = FakeCudart()
sys.modules["tensorrt"] = fake_tensorrt.make(VERSION, cudart)
cuda.load_library = lambda: cudart
on_engine.WARM_UP, on_engine.FRAMES, on_engine.OPENINGS, on_board.SECONDS = 1, 3, 3, 0.1
"""


@pytest.mark.slow
def test_the_whole_list_on_a_board_of_fakes(
    folder: Path, tmp_path: Path, trtexec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is typed on a board, each step in its process. The fake trtexec's plans are none that the fake TensorRT can run, so
    the labels fail; there are no camera, no sensor and no power modes, and those steps say so; all else is done."""
    trtexec()
    repository = Path(__file__).parents[3]
    site = SITE.replace("REPOSITORY", repr(str(repository))).replace("VERSION", repr(VERSIONS[0]))
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(site)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{repository}")
    out = tmp_path / "results.json"
    assert typed(monkeypatch, folder, "--out", out) == 0
    rows = json.loads(out.read_text())["steps"]
    short = {name: row["status"] for name, row in rows.items() if row["status"] != "done"}
    assert short == {
        "labels, TF32 off": "failed", "labels, TF32 on": "failed", "compile --again": "not here",
        "CSI": "failed", "power": "not here",
    }  # fmt: skip
    assert rows["doctor"]["found"]["TensorRT"]["found"] == VERSIONS[0]
    assert rows["latency full"]["found"]["bucket"] == "full" and rows["compile"]["found"]["rows"]
    assert "CSI cameras and a Jetson's decoder need GStreamer's Python bindings" in rows["CSI"]["reason"]
    assert all(row["reason"] for name, row in rows.items() if name in short)

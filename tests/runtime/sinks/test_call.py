"""A function of the user's own."""

from pathlib import Path

import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.sinks.call import Call, find_function
from tests.runtime.loop.fakes import Scripted
from tests.runtime.rows import row
from tests.runtime.sinks.found import Found


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the working folder; each test has its own, as Python keeps modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"robot_{abs(hash(tmp_path))}"
    Path(f"{name}.py").write_text(
        "seen = []\nlimit = 2\ndef publish(result):\n    if len(seen) == limit:\n        raise ValueError('bad')\n"
        "    seen.append(result.index)\n"
    )
    return name


def test_it_gets_each_result(robot: str) -> None:
    sink = Call(f"{robot}:publish", Scripted(0))
    for index in range(2):
        taken = sink.add(Found(index), row(index)).encode_ms
        assert taken is not None and taken >= 0
    assert sink.kept is None
    with pytest.raises(RunError, match=rf"{robot}:publish failed on frame 2: {robot}.py:5: ValueError: bad"):
        sink.add(Found(2), row(2))
    sink.close()


def test_names_that_are_refused(robot: str) -> None:
    for name in ("robot", ":publish", "robot:"):
        with pytest.raises(InputError, match="names no function; type one as MODULE:FUNCTION, such as robot:publish"):
            find_function(name)
    with pytest.raises(InputError, match="cannot import no_such_module .*ModuleNotFoundError.*; check the module"):
        find_function("no_such_module:publish")
    with pytest.raises(InputError, match=rf"{robot} has no function 'publsh'; did you mean 'publish'"):
        find_function(f"{robot}:publsh")
    Path(f"{robot}_broken.py").write_text("1 / 0\n")
    with pytest.raises(InputError, match=rf"cannot import {robot}_broken .*{robot}_broken.py:1: ZeroDivisionError"):
        find_function(f"{robot}_broken:publish")


@pytest.mark.parametrize("name", ["robot.py:publish", "/home/me/robot.py:publish"])
def test_a_file_in_place_of_a_module_is_answered_with_what_to_type(name: str) -> None:
    with pytest.raises(InputError, match=r"names a file; type its module, such as robot:publish"):
        find_function(name)


def test_what_ends_a_program_is_a_failure_of_the_function(robot: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`sys.exit` in it would end the run without a word; what it prints is no part of the run's result."""
    Path(f"{robot}_ends.py").write_text(
        "import sys\nprint('here')\ndef publish(result):\n    print(1)\n    sys.exit(4)\n"
    )
    with pytest.raises(RunError, match=rf"failed on frame 0: {robot}_ends.py:5: SystemExit: 4"):
        Call(f"{robot}_ends:publish", Scripted(0)).add(Found(0), row(0))
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err == "here\n1\n"
    Path(f"{robot}_leaves.py").write_text("import sys\nsys.exit(4)\n")
    with pytest.raises(InputError, match=rf"cannot import {robot}_leaves .*SystemExit: 4"):
        find_function(f"{robot}_leaves:publish")


@pytest.mark.parametrize(
    ("definition", "passes"),
    [
        ("def f(): pass", False),
        ("def f(a, b): pass", False),
        ("def f(*, result): pass", False),
        ("def f(result, *, key): pass", False),
        ("class f:\n    pass", False),
        ("def f(result, more=1): pass", True),
        ("def f(*results): pass", True),
        ("f = {}.get", True),
        ("f = print", True),
        ("f = getattr(str, 'maketrans')", True),  # has no signature
    ],
)
def test_what_cannot_take_a_result_alone_is_refused_before_the_camera_opens(
    robot: str, definition: str, passes: bool
) -> None:
    Path(f"{robot}.py").write_text(f"{definition}\n")
    if passes:
        find_function(f"{robot}:f")
        return
    with pytest.raises(InputError, match=rf"{robot}:f\(.*\) can't be called with a result alone \(.*\); write it as f"):
        find_function(f"{robot}:f")

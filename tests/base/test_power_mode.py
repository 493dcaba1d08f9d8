"""Which power mode is set, which is the fastest, and what sets it, on boards whose numbers mean different things."""

from pathlib import Path

import pytest

from edgeprune.base.power_mode import (
    CONFIGURATION,
    GOVERNOR,
    STATUS,
    current_mode,
    fastest,
    how_to_be_fastest,
    power_mode,
    power_modes,
    slower_than_it_could_be,
)
from tests.power_modes import BOARDS, configuration, write


@pytest.fixture
def nvpmodel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH, which holds nothing else; `answers(nvpmodel, text)` puts the program there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def answers(folder: Path, text: str) -> None:
    program = folder / "nvpmodel"
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -q ] || exit 1\nprintf '{text}'\n")
    program.chmod(0o755)


@pytest.mark.parametrize("name", BOARDS)
def test_the_fastest_mode_of_each_board(tmp_path: Path, nvpmodel: Path, name: str) -> None:
    board = BOARDS[name]
    root = write(tmp_path, {CONFIGURATION: configuration(board.modes)})
    assert [(mode.number, mode.name) for mode in power_modes(root)] == list(enumerate(board.modes))
    most = fastest(power_modes(root))
    assert most is not None and (most.name, most.number) == (board.fastest, board.number)
    slow = next(number for number, each in enumerate(board.modes) if each != board.fastest)
    answers(nvpmodel, f"NV Power Mode: {board.modes[slow]}\\n{slow}\\n")
    assert slower_than_it_could_be(root) == (
        f"the board is in power mode {board.modes[slow]} (mode {slow}); its fastest is {board.fastest}: "
        f"sudo nvpmodel -m {board.number}, then sudo jetson_clocks"
    )
    answers(nvpmodel, f"NV Power Mode: {board.fastest}\\n{board.number}\\n")
    assert how_to_be_fastest(root) is None and slower_than_it_could_be(root) is None


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"A": "GPU MAX_FREQ 408000000", "B": "GPU MAX_FREQ 918000000"}, "B"),
        ({"A": "GPU MAX_FREQ -1", "B": "GPU MAX_FREQ 918000000"}, "A"),  # -1 is no limit
        ({"A": "GPU MAX_FREQ 918000000\nCPU_ONLINE CORE_0 1", "B": "GPU MAX_FREQ 918000000\nCPU_ONLINE CORE_0 0"}, "A"),
        ({"A": "", "B": ""}, None),  # nothing tells
    ],
)
def test_without_maxn_the_clocks_tell(tmp_path: Path, limits: dict[str, str], expected: str | None) -> None:
    most = fastest(power_modes(write(tmp_path, {CONFIGURATION: configuration(("A", "B"), limits)})))
    assert (most and most.name) == expected


def test_without_clocks_the_watts_tell() -> None:
    from edgeprune.base.power_mode import PowerMode

    most = fastest([PowerMode(0, "MODE_7W"), PowerMode(1, "MODE_25W"), PowerMode(2, "15W")])
    assert most is not None and most.name == "MODE_25W"


def test_a_configuration_that_is_damaged(tmp_path: Path) -> None:
    text = "< POWER_MODEL ID=x NAME=MAXN >\nGPU MAX_FREQ 5\n< POWER_MODEL NAME=15W ID=3 >\nGPU MAX_FREQ fast\n\xff<\n"
    (mode,) = power_modes(write(tmp_path, {CONFIGURATION: text}))
    assert (mode.number, mode.name, mode.limits) == (3, "15W", {})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("NV Power Mode: MAXN_SUPER\\n2\\n", "MAXN_SUPER (mode 2)"),
        ("NV Fan Mode:quiet\\nNV Power Mode: MODE_15W\\n2\\n", "MODE_15W (mode 2)"),
        ("NV Power Mode: 15W\\n7\\nNVPM ERROR: Error opening /sys/kernel/x: 13\\n", "15W (mode 7)"),
        ("NVPM ERROR: no config\\n", "governor schedutil"),
    ],
)
def test_what_nvpmodel_answers(tmp_path: Path, nvpmodel: Path, said: str, expected: str) -> None:
    answers(nvpmodel, said)
    assert power_mode(write(tmp_path, {GOVERNOR: "schedutil\n"})) == expected


def test_without_the_program_the_boards_own_note_is_read(tmp_path: Path, nvpmodel: Path) -> None:
    """As in a container."""
    write(tmp_path, {CONFIGURATION: configuration(BOARDS["orin-nano"].modes)})
    assert power_mode(write(tmp_path, {STATUS: "pmode:0002 fmode:fan_mode_quiet\n"})) == "MAXN_SUPER (mode 2)"
    assert current_mode(write(tmp_path, {STATUS: "pmode:0009\n"})) is None


def test_a_machine_that_is_no_jetson(tmp_path: Path, nvpmodel: Path) -> None:
    assert power_mode(tmp_path) is None and power_modes(tmp_path) == [] and how_to_be_fastest(tmp_path) is None

"""Who takes the processors, from a /proc that is known."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.base.processors import LEAST_TICKS, Ticks, others_share, processor_ticks
from tests.power_modes import write

ME = os.getpid()


def described(number: int, parent: int, own: tuple[int, int], ended: tuple[int, int] = (0, 0), name: str = "x") -> str:
    """A process's `stat` (proc_pid_stat(5)): its ticks as user and as system, and those of its ended children."""
    return f"{number} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 {own[0]} {own[1]} {ended[0]} {ended[1]} 20 0 1 0 100\n"


def machine(root: Path, of_all: str = "cpu  500 20 80 9000 300 7 3 40 11 0", **processes: str) -> Path:
    """`p4711="..."` describes process 4711. /proc holds other things beside them."""
    files = {"proc/stat": f"{of_all}\ncpu0 1 1 1 1 1 1 1 1 0 0\nintr 5\n", "proc/uptime": "1 1\n"}
    return write(root, files | {f"proc/{key[1:]}/stat": text for key, text in processes.items()})


def test_ours_are_those_that_descend_from_this_process(tmp_path: Path) -> None:
    """The child of a child, in whatever order they stand there, and what had ended; not our parent, and no sister."""
    processes = {
        f"p{ME}": described(ME, 1, (100, 10), (5, 1)),
        f"p{ME + 1}": described(ME + 1, ME + 2, (20, 2)),
        f"p{ME + 2}": described(ME + 2, ME, (40, 4), (3, 0)),
        f"p{ME + 3}": described(ME + 3, 1, (300, 30)),
        "p1": described(1, 0, (9, 9), (700, 70)),
    }
    found = processor_ticks(machine(tmp_path, **processes))
    # of the machine's ticks 11 of guests are among those of users; interrupts are no process's
    assert found == Ticks(whole=500 + 20 + 80 + 9000 + 300 + 7 + 3 + 40, busy=500 + 20 + 80 + 40, ours=116 + 22 + 47)


def test_a_name_may_hold_anything(tmp_path: Path) -> None:
    root = machine(tmp_path, **{f"p{ME}": described(ME, 1, (100, 10), name=") S 0 (")})
    (root / "proc" / str(ME + 1)).mkdir()
    (root / "proc" / str(ME + 1) / "stat").write_bytes(described(ME + 1, ME, (7, 0)).encode().replace(b"x", b"\xff 1"))
    found = processor_ticks(root)
    assert found is not None and found.ours == 117


@pytest.mark.parametrize("of_all", ["", "cpu  1 2 3", "cpu  a b c d e f g h"])
def test_what_tells_nothing_is_none(tmp_path: Path, of_all: str) -> None:
    own = {f"p{ME}": described(ME, 1, (100, 10))}
    assert processor_ticks(machine(tmp_path / "garbled", of_all, **own)) is None
    assert processor_ticks(machine(tmp_path / "without-us")) is None
    assert processor_ticks(tmp_path / "no-proc") is None


def test_the_share_of_others() -> None:
    before = Ticks(10_000, 4_000, 1_000)
    assert others_share(before, Ticks(12_000, 5_500, 2_100)) == pytest.approx(0.2)
    assert others_share(before, Ticks(12_000, 5_000, 2_003)) == 0.0  # ours are counted more finely
    assert others_share(before, Ticks(10_000 + LEAST_TICKS, 4_100, 1_000)) == 1.0
    assert others_share(before, Ticks(10_000 + LEAST_TICKS - 1, 4_099, 1_000)) is None
    assert others_share(None, before) is others_share(before, None) is None


def test_what_a_child_takes_is_ours_when_it_has_ended() -> None:
    before = processor_ticks()
    if before is None:
        pytest.skip("needs /proc, as Linux has it")
    spin = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", spin], check=True, timeout=600)
    after = processor_ticks()
    assert after is not None and after.ours - before.ours >= 0.4 * os.sysconf("SC_CLK_TCK")

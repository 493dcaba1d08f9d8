"""No traceback, no hang, no gigabyte, no stray file and no process, whatever is in a file. The long campaign is slow."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.reading import ROOT
from tests.fuzz.campaign import RESULT
from tests.fuzz.targets import KINDS

pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")


def run_campaign(work: Path, share: float, timeout_s: int) -> dict[str, Any]:
    """In a process of its own: audit hooks and limits of memory can't be taken back."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.campaign", "--share", str(share), "--work", str(work)]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads((work / RESULT).read_text())
    return result


def check(result: dict[str, Any]) -> None:
    for name, kind in result["kinds"].items():
        print({name: {key: value for key, value in kind.items() if key != "shown"}})
    findings = {name: kind["shown"] for name, kind in result["kinds"].items() if kind["findings"]}
    assert findings == {}, json.dumps(findings, indent=1)
    assert result["strays"] == []
    assert result["peak_mb"] - result["imported_mb"] < 1024
    for name, verb in result["verbs"].items():
        assert verb["code"] in (2, 3) and verb["line"].startswith("edgeprune"), (name, verb)


def test_some_mutated_inputs_of_each_kind(tmp_path: Path) -> None:
    result = run_campaign(tmp_path / "work", 0.003, 300)
    check(result)
    assert sum(kind["cases"] for kind in result["kinds"].values()) > 300
    assert result["kinds"].keys() == KINDS.keys()


@pytest.mark.slow
def test_a_hundred_thousand_mutated_inputs(tmp_path: Path) -> None:
    result = run_campaign(tmp_path / "work", 1.0, 20 * 60)
    check(result)
    assert sum(kind["cases"] for kind in result["kinds"].values()) >= 100_000
    # a campaign whose every case is refused at the door tests the door alone
    for name in ("manifest", "yaml", "folder", "checkpoint", "image", "video", "comparison", "record", "config", "uri"):
        assert result["kinds"][name]["accepted"] > 0.01 * result["kinds"][name]["cases"], name


CHEATS = {
    "a process": ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
    "a shell": ("import os; os.system('true')", "os.system"),
    "a file elsewhere": ("open('/tmp/edgeprune-fuzz-stray', 'w')", "outside the output folder"),
    "a folder elsewhere": ("import os; os.mkdir('/tmp/edgeprune-fuzz-stray')", "outside the output folder"),
    "a link in the folder that leads out": (
        "import os; os.symlink('/tmp', 'link'); open('link/edgeprune-fuzz-stray', 'w')", "outside the output folder"
    ),
    "a connection": ("import socket; socket.socket().connect(('127.0.0.1', 9))", "socket.connect"),
    "no end": ("while True: pass", "more than 0.2 s"),
    "memory without end": ("bytearray(2 << 30)", "MemoryError"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_the_guard_sees(name: str, tmp_path: Path) -> None:
    """What the campaign could not find otherwise."""
    cheat, words = CHEATS[name]
    code = f"""
import os
from pathlib import Path
from tests.fuzz import guard
guard.SECONDS = 0.2
watcher = guard.Guard(Path({str(tmp_path)!r}))
guard.limit_memory()
os.chdir({str(tmp_path)!r})
with watcher.watch():
    open("inside", "w").close()
    try:
        exec({cheat!r})
    except Exception as error:
        print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, timeout=600)
    assert words in done.stderr + done.stdout, done
    assert not Path("/tmp/edgeprune-fuzz-stray").exists()

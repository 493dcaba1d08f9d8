"""The commands of the README, as they stand there: every one parses, and those that are quick and need nothing are run. Those
of the guides and of the model's card parse."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.typed import parse

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
# what is left to the slow run: they take minutes, or need a camera that no test machine has
SLOW = (
    "train street-short",
    "build --checkpoint out/train",
    "eval --bundle out/bundles/without",
    "build --target jetson-orin",
    "build --target host",
    "build --size",
    "scaling",
    "baselines",
    "train street-tiny",
    "ablate",
    "roofline",
    "trtexec",
    "bench",
    "onnxruntime-fp16",
    "compare",
    "compile",
)


PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "edgeprune" / "zoo").glob("*/*.md"))]


def commands(page: Path = README) -> list[str]:
    """`edgeprune ...` lines of the page's shell blocks, in order, without comments and folders."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text().replace("\\\n", " "), re.S)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    found = [re.search(r"(?:^|/)(edgeprune .*)", line) for line in lines]
    return [match[1] for match in found if match]


def test_the_readme_has_commands() -> None:
    assert len(commands()) >= 5


def test_the_pages_have_commands() -> None:
    assert {page.name for page in PAGES if commands(page)} >= {"README.md", "results.md", "jetson.md"}


@pytest.mark.parametrize("command", dict.fromkeys(command for page in PAGES for command in commands(page)))
def test_command_parses(command: str) -> None:
    parse(command)


def test_make_targets_of_the_readme_exist() -> None:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README.read_text(), re.S))
    named = set(re.findall(r"^make (\w+)", blocks, re.M))
    assert {"demo", "test"} <= named
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert named <= targets


def test_make_says_which_python_its_pins_need(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    old = tmp_path / "python3.10"
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 10, 4); exec(sys.argv[1])' \"$2\"\n"
    )
    old.chmod(0o755)
    done = subprocess.run(["make", "setup", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    said = done.stderr.splitlines()[0]
    assert done.returncode == 2 and not (tmp_path / ".venv").exists()
    assert said == "found Python 3.10, constraints.txt has pins for 3.11 or later; type: make setup PYTHON=python3.11"


def test_linked_files_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README.read_text()) if "://" not in link]
    assert len(links) >= 6
    for link in links:
        assert (ROOT / link).is_file(), link


def test_quick_commands_run_in_order(tmp_path: Path) -> None:
    """A build of the shipped model, a run, a look at labels: as a user would, in an empty folder. No test machine has a
    camera: a run of `--camera 0` takes the synthetic street, as the README says that it may."""
    binary = Path(sys.executable).with_name("edgeprune")
    assert binary.is_file(), "install edgeprune in this environment: make setup"
    ran = 0
    for command in commands():
        if any(mark in command for mark in SLOW):
            continue
        _, *words = shlex.split(command.replace("--camera 0", "--camera synthetic://street --frames 8"))
        done = subprocess.run([binary, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        ran += 1
    assert ran >= 3
    assert (tmp_path / "out" / "overlay.mp4").stat().st_size > 0

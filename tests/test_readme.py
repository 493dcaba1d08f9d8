"""The commands of the README, as they stand there: every one parses, and those that are quick and need nothing are run. Those
of the guides and of the model's card parse."""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.base.reading import ROOT as EDGEPRUNE
from edgeprune.bundle.target import load_target
from edgeprune.export.build import BuildLog, build_precision, check_parity
from edgeprune.export.inputs import find_inputs
from edgeprune.export.spec import describe_build
from edgeprune.export.weights import GRAPHS
from tests import bundles
from tests.cli.typed import parse

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SLOW = ("train street-short", "build --target jetson-orin")  # minutes


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


def test_the_readme_has_nobody_install_what_make_setup_has() -> None:
    (has,) = re.findall(r"pip install .*-e '\.\[([\w,]+)\]'", (ROOT / "Makefile").read_text())
    asked = re.findall(r"edgeprune\[([\w,]+)\]", README.read_text())
    assert "view" in has.split(",") and not {name for each in asked for name in each.split(",")} & set(has.split(","))


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


BUILD = "edgeprune build --target onnx-cpu"  # minutes: `--slow`, and `make demo`, run it as it stands


def run(command: str, folder: Path) -> None:
    """Types a command in a folder. No test machine has a camera: `--camera 0` is the synthetic street there, as the README says
    that it may be."""
    binary = Path(sys.executable).with_name("edgeprune")
    assert binary.is_file(), "install edgeprune in this environment: make setup"
    _, *words = shlex.split(command.replace("--camera 0", "--camera synthetic://street --frames 8"))
    done = subprocess.run([binary, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def run_quick_commands(folder: Path, *without: str) -> None:
    ran = [command for command in commands() if not any(mark in command for mark in (*SLOW, *without))]
    for command in ran:
        run(command, folder)
    assert len(ran) >= 2
    assert (folder / "out" / "overlay.mp4").stat().st_size > 0


def test_quick_commands_run_in_order(tmp_path: Path) -> None:
    """As a user would, in an empty folder, but that a small bundle lies where the build of the shipped model leaves its own."""
    assert BUILD in commands()
    bundles.write_bundle(tmp_path / "out" / "bundles" / "street-tiny-onnx-cpu")
    run_quick_commands(tmp_path, BUILD)


@pytest.mark.slow
def test_quick_commands_run_in_order_with_the_shipped_model(tmp_path: Path) -> None:
    run_quick_commands(tmp_path)


@pytest.mark.slow
def test_the_shipped_model_builds(tmp_path: Path) -> None:
    """Its smallest bucket in INT8, linted and held to PyTorch: what a build does for each bucket and precision."""
    target = load_target("onnx-cpu")
    checkpoint = EDGEPRUNE / "zoo" / "street-tiny" / "qat.safetensors"
    spec = describe_build(target, find_inputs(checkpoint, None, None), ["int8"])
    small = replace(spec, buckets=spec.buckets[:1], frames_FHW3=spec.frames_FHW3[:2])
    (tmp_path / GRAPHS).mkdir()
    built = build_precision(small, "int8", tmp_path, BuildLog(tmp_path / "build.log"))
    assert built.findings == []
    check_parity(target, built.parity)
    assert [row.bucket for row in built.parity] == [spec.buckets[0].name]

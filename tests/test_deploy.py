"""`deploy` against a device that is a folder: `ssh` and `scp` are scripts which do there what they are told."""

import os
from pathlib import Path

import pytest

from edgeprune import deploy as module
from edgeprune.bundle import Bundle
from edgeprune.deploy import build_wheel, deploy
from edgeprune.errors import InputError, RunError
from tests import bundles

SSH = """#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
[ "$1" = nobody@nowhere ] && { echo "ssh: Could not resolve hostname nowhere" >&2; exit 255; }
echo "$1: $2" >> "$LOG"
cd "$HOME_THERE" && PATH="$BIN_THERE:$PATH" sh -c "$2"
"""
SCP = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done
cp -r "$1" "$HOME_THERE/${2#*:}"
"""
# what the environment there holds: programs that say what they were asked
PROGRAM = """#!/bin/sh
echo "${0##*/} $*" >> "$LOG"
[ "$1" = "$FAILS" ] && { echo "it broke" >&2; exit 3; }
echo "said $1"
"""
PYTHON = """#!/bin/sh
mkdir -p "$4/bin"
for program in python edgeprune; do cp "$BIN_THERE/program" "$4/bin/$program"; done
"""


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The device's home."""
    scripts = {"bin/ssh": SSH, "bin/scp": SCP, "there/python3": PYTHON, "there/program": PROGRAM}
    for name, content in scripts.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for name, value in {
        "HOME_THERE": home,
        "BIN_THERE": tmp_path / "there",
        "LOG": tmp_path / "log",
        "FAILS": "",
    }.items():
        monkeypatch.setenv(name, str(value))
    return home


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundles.write_bundle(tmp_path / "my bundle")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "edgeprune-1-py3-none-any.whl"
    path.touch()
    return path


def test_what_is_copied_and_typed_there(device: Path, bundle: Bundle, wheel: Path, tmp_path: Path) -> None:
    said: list[str] = []
    command = deploy("me@orin", bundle, wheel, "apps/edge", True, said.append)
    assert {path.name for path in (device / "apps/edge/my bundle").iterdir()} == {
        path.name for path in bundle.folder.iterdir()
    }
    typed = [line for line in (tmp_path / "log").read_text().splitlines() if not line.startswith("me@orin")]
    assert typed == [
        f"python -m pip install --quiet --upgrade apps/edge/incoming/{wheel.name}",
        "edgeprune inspect apps/edge/incoming/my bundle",
        "edgeprune compile apps/edge/my bundle",
    ]
    log = (tmp_path / "log").read_text()
    assert "me@orin: python3 -m venv --system-site-packages apps/edge/venv" in log
    assert said[-1] == "said compile" and "me@orin: copies the bundle my bundle" in said
    assert command == "ssh me@orin apps/edge/venv/bin/edgeprune run --bundle 'apps/edge/my bundle' --camera 0"


def test_a_second_time_the_bundle_is_replaced(device: Path, bundle: Bundle, wheel: Path) -> None:
    deploy("me@orin", bundle, wheel, "edge", False, lambda line: None)
    (device / "edge/my bundle/old").touch()
    deploy("me@orin", bundle, wheel, "edge", False, lambda line: None)
    assert not (device / "edge/my bundle/old").exists()


def test_a_device_that_cannot_be_reached(device: Path, bundle: Bundle, wheel: Path) -> None:
    with pytest.raises(InputError, match="nobody@nowhere: ssh: Could not resolve .*try `ssh nobody@nowhere` by hand"):
        deploy("nobody@nowhere", bundle, wheel, "edge", False, lambda line: None)


def test_a_step_that_fails_there(device: Path, bundle: Bundle, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "inspect")
    (device / "edge/my bundle").mkdir(parents=True)
    (device / "edge/my bundle/old").touch()
    with pytest.raises(RunError, match="me@orin: verifies the bundle: it broke"):
        deploy("me@orin", bundle, wheel, "edge", False, lambda line: None)
    assert (device / "edge/my bundle/old").exists()  # the copy of before is still in its place


@pytest.mark.parametrize("folder", ["", "/", "..", "./"])
def test_a_folder_that_is_none_of_its_own(bundle: Bundle, wheel: Path, folder: str) -> None:
    with pytest.raises(InputError, match="is no folder of its own on the device; name one"):
        deploy("me@orin", bundle, wheel, folder, False, lambda line: None)


def test_without_openssh(bundle: Bundle, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match="deploy needs OpenSSH's ssh, which is not here; sudo apt install openssh-client"
    ):
        deploy("me@orin", bundle, wheel, "edge", False, lambda line: None)


def test_without_a_clone_the_wheel_must_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    with pytest.raises(InputError, match="not a clone: give the wheel that it came from with --wheel"):
        build_wheel(tmp_path / "wheel")

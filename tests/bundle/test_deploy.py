"""`deploy` against a device that is a folder: `ssh` and `scp` are scripts which do there what they are told."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import Bundle
from edgeprune.bundle import deploy as module
from edgeprune.bundle.deploy import build_wheel, deploy
from tests import bundles

SSH = """#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
[ "$1" = nobody@nowhere ] && { echo "ssh: Could not resolve hostname nowhere" >&2; exit 255; }
echo "$1: $2" >> "$LOG"
cd "$HOME_THERE" && PATH="$BIN_THERE:$PATH" sh -c "$2"
"""
# Until OpenSSH 9.0 the path there is a word for the shell there; since then it is a name as it stands, but for its ~.
SCP_FIRST = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done
echo "scp $2" >> "$LOG"
"""
SCP_BY_SHELL = (
    SCP_FIRST
    + """cd "$HOME_THERE" && cp -r "$1" "$(sh -c "printf %s ${2#*:}")"
"""
)
SCP_BY_SFTP = (
    SCP_FIRST
    + """cp -r "$1" "$HOME_THERE/${2#*:}"
"""
)
# what the environment there holds: programs that say what they were asked
PROGRAM = """#!/bin/sh
echo "${0##*/} $*" >> "$LOG"
[ "$1" = "$FAILS" ] && { echo "it broke" >&2; exit 3; }
echo "said $1"
"""
PYTHON = """#!/bin/sh
[ -n "$NO_VENV" ] && { printf "$NO_VENV"; exit 1; }
mkdir -p "$4/bin"
for program in python edgeprune; do cp "$BIN_THERE/program" "$4/bin/$program"; done
"""


@pytest.fixture(params=[SCP_BY_SFTP, SCP_BY_SHELL], ids=["sftp", "shell"])
def device(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The device's home."""
    scripts = {"bin/ssh": SSH, "bin/scp": request.param, "there/python3": PYTHON, "there/program": PROGRAM}
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
        "NO_VENV": "",
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


def test_what_is_copied_and_typed_there(
    device: Path, bundle: Bundle, wheel: Path, tmp_path: Path, said: list[str]
) -> None:
    command = deploy("me@orin", bundle, wheel, "apps/edge", True)
    assert {path.name for path in (device / "apps/edge/my bundle").iterdir()} == {
        path.name for path in bundle.folder.iterdir()
    }
    log = (tmp_path / "log").read_text()
    typed = [line for line in log.splitlines() if line.startswith(("python", "edgeprune"))]
    (staging,) = set(re.findall(r"\.edgeprune-\w+", log)) - {".edgeprune-XXXXXX"}
    assert typed == [
        f"python -m pip install --quiet --upgrade {staging}/{wheel.name}[video]",
        f"python -m pip install --quiet --force-reinstall --no-deps {staging}/{wheel.name}",
        f"edgeprune inspect {staging}/my bundle",
        "edgeprune compile apps/edge/my bundle",
    ]
    assert "me@orin: python3 -m venv --system-site-packages apps/edge/venv" in log
    assert log.count(f"scp me@orin:{staging}/\n") == 2 and not (device / staging).exists()
    assert said[-1] == "said compile" and "me@orin: copies the bundle my bundle" in said
    words = shlex.split(command)  # what a person's own shell makes of it, and then the device's
    assert words[:2] == ["ssh", "me@orin"]
    run = ["apps/edge/venv/bin/edgeprune", "run", "--bundle", "apps/edge/my bundle", "--camera", "0"]
    assert len(words) == 3 and shlex.split(words[2]) == run


@pytest.mark.parametrize(
    "folder", ["my apps", "$(touch pwned)", "a;touch pwned", "it's `here` *", 'a"b', "/{home}/x y"]
)
def test_no_shell_there_reads_what_a_user_names(
    device: Path, bundle: Bundle, wheel: Path, folder: str, tmp_path: Path
) -> None:
    folder = folder.replace("/{home}", str(device))
    deploy("me@orin", bundle, wheel, folder, False)
    assert ((device / folder) / "my bundle/manifest.json").is_file()
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    "host",
    [
        "-oProxyCommand=touch pwned",
        "me@-oProxyCommand=x",
        "",
        "me@",
        "me@a b",
        "me@orin;id",
        "me@$(id)",
        "me@orin:22",
        "a/b",
    ],
)
def test_a_host_that_is_none(device: Path, bundle: Bundle, wheel: Path, host: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no device; expected user@device of letters"):
        deploy(host, bundle, wheel, "edge", False)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("host", ["orin", "me@orin.local", "me@10.0.0.7", "first.last@orin_2-b"])
def test_hosts_as_ssh_takes_them(device: Path, bundle: Bundle, wheel: Path, host: str, tmp_path: Path) -> None:
    deploy(host, bundle, wheel, "edge", False)
    assert f"{host}: mkdir -p edge" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("host", ["me@fe80::1%eth0", "me@[fe80::1%eth0]"])
def test_an_address_with_colons(
    device: Path, bundle: Bundle, wheel: Path, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh takes it as it is, scp in brackets."""
    with pytest.raises(RunError):  # the fake scp cuts at the first colon
        deploy(host, bundle, wheel, "edge", False)
    log = (tmp_path / "log").read_text()
    assert "me@fe80::1%eth0: mkdir -p edge" in log and "scp me@[fe80::1%eth0]:.edgeprune-" in log


def test_the_answer_to_a_python_without_venv_is_one_line_to_type(
    device: Path, bundle: Bundle, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Ubuntu's python3 prints; its last line says nothing."""
    monkeypatch.setenv(
        "NO_VENV",
        "The virtual environment was not created successfully because ensurepip is not\\navailable. On Debian/Ubuntu systems, "
        "you need to install the python3-venv\\npackage using the following command.\\n\\n    apt install python3.10-venv\\n"
        "\\nFailing command: /home/me/edge/venv/bin/python3\\n",
    )
    with pytest.raises(InputError, match=r"type on it: sudo apt install python3-venv$"):
        deploy("me@orin", bundle, wheel, "edge", False)


def test_another_failure_of_venv_keeps_its_reason(
    device: Path, bundle: Bundle, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_VENV", "Error: [Errno 28] No space left on device\\n")
    with pytest.raises(RunError, match="makes an environment: Error: .* No space left on device"):
        deploy("me@orin", bundle, wheel, "edge", False)


def test_a_place_that_holds_something_else_is_left_alone(device: Path, bundle: Bundle, wheel: Path) -> None:
    (device / "pictures/my bundle").mkdir(parents=True)
    (device / "pictures/my bundle/holiday.jpg").touch()
    for manifest in (None, '{"name": "a web page"}'):
        if manifest:
            (device / "pictures/my bundle/manifest.json").write_text(manifest)
        with pytest.raises(InputError, match="pictures/my bundle is there and is no bundle; name another --folder"):
            deploy("me@orin", bundle, wheel, "pictures", False)
    assert (device / "pictures/my bundle/holiday.jpg").exists() and not (device / "pictures/venv").exists()


@pytest.mark.parametrize("name", ["venv", "a\nb"])
def test_a_bundle_whose_folder_has_no_place(device: Path, wheel: Path, tmp_path: Path, name: str) -> None:
    made = bundles.write_bundle(tmp_path / name)
    with pytest.raises(InputError, match="the bundle's folder is called .*rename"):
        deploy("me@orin", made, wheel, "edge", False)


def test_pips_reason_is_not_its_last_notice() -> None:
    printed = "ERROR: No matching distribution found for numpy\n[notice] A new release of pip is available\n"
    assert module._reason(printed) == "ERROR: No matching distribution found for numpy"


def test_a_second_time_the_bundle_is_replaced(device: Path, bundle: Bundle, wheel: Path) -> None:
    deploy("me@orin", bundle, wheel, "edge", False)
    (device / "edge/my bundle/old").touch()
    deploy("me@orin", bundle, wheel, "edge", False)
    assert not (device / "edge/my bundle/old").exists()


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_the_older_copy_stays_in_its_place_where_the_new_one_can_not_be_put_there(
    device: Path, bundle: Bundle, wheel: Path, tmp_path: Path, failing: int
) -> None:
    """The staging folder lies in the home, which may be another disk: moving is copying, and a disk may be full."""
    deploy("me@orin", bundle, wheel, "edge", False)
    (device / "edge/my bundle/old").touch()
    move = tmp_path / "there/mv"
    copy = 'mkdir "$2" && touch "$2/manifest.json"' if failing == 1 else ":"  # the others are within a folder
    move.write_text(f"""#!/bin/sh
echo >> "$BIN_THERE/moves"
[ $(wc -l < "$BIN_THERE/moves") = {failing} ] && {{ {copy}; echo "mv: No space left" >&2; exit 1; }}
exec {shutil.which("mv")} "$@"
""")
    move.chmod(0o755)
    with pytest.raises(RunError, match="puts the bundle in its place: mv: No space left"):
        deploy("me@orin", bundle, wheel, "edge", False)
    assert (device / "edge/my bundle/old").exists() and (device / "edge/my bundle/manifest.json").exists()
    move.unlink()
    deploy("me@orin", bundle, wheel, "edge", False)
    assert {path.name for path in (device / "edge").iterdir()} == {"venv", "my bundle"}
    assert not (device / "edge/my bundle/old").exists()


def test_a_device_that_cannot_be_reached(device: Path, bundle: Bundle, wheel: Path) -> None:
    with pytest.raises(InputError, match="nobody@nowhere: ssh: Could not resolve .*try `ssh nobody@nowhere` by hand"):
        deploy("nobody@nowhere", bundle, wheel, "edge", False)


def test_a_step_that_fails_there(device: Path, bundle: Bundle, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "inspect")
    (device / "edge/my bundle").mkdir(parents=True)
    (device / "edge/my bundle/old").touch()
    (device / "edge/my bundle/manifest.json").write_text('{\n "schema_version": 5}')
    with pytest.raises(RunError, match="me@orin: verifies the bundle: it broke"):
        deploy("me@orin", bundle, wheel, "edge", False)
    assert (device / "edge/my bundle/old").exists()  # the copy of before is still in its place


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        *((folder, "is no folder of its own") for folder in ("", "/", "..", "./")),
        *((folder, "leads out of itself") for folder in ("a/../..", "../a", "/opt/../etc", "a/..")),
        *((folder, "begins with ~") for folder in ("~/edge", "~")),
        ("-rf", "begins with -"),
        ("a\nb", "can't be printed"),
    ],
)
def test_a_folder_that_is_none_of_its_own(bundle: Bundle, wheel: Path, folder: str, why: str) -> None:
    with pytest.raises(InputError, match=f"--folder .* {why}.*; name one, as edgeprune"):
        deploy("me@orin", bundle, wheel, folder, False)


def test_a_refusal_comes_before_the_work(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "build_wheel", lambda folder: pytest.fail("a wheel was built"))
    with pytest.raises(InputError, match="is no device"):
        deploy("-oProxyCommand=x", bundle, None, "edge", False)


def test_without_a_wheel_one_is_built(
    device: Path, bundle: Bundle, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "build_wheel", lambda folder: wheel)
    deploy("me@orin", bundle, None, "edge", False)
    assert (device / "edge/my bundle").is_dir()


def test_without_openssh(bundle: Bundle, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match="deploy needs OpenSSH's ssh, which is not here; sudo apt install openssh-client"
    ):
        deploy("me@orin", bundle, wheel, "edge", False)


def test_without_a_clone_the_wheel_must_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    with pytest.raises(InputError, match="not a clone: give the wheel that it came from with --wheel"):
        build_wheel(tmp_path / "wheel")


def test_a_device_is_sent_no_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 MB that nothing there can read: what builds is where torch is."""

    def pip(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        source = Path(command[-1])
        assert (source / "edgeprune" / "zoo" / "street-tiny" / "README.md").is_file()
        assert not list(source.rglob("*.safetensors"))
        (tmp_path / "edgeprune-0-py3-none-any.whl").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    assert build_wheel(tmp_path).suffix == ".whl"

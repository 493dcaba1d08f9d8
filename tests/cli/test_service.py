"""`service`: the unit of a run, and how a run behaves under a service manager."""

import csv
import json
import os
import pwd
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime import unit
from edgeprune.runtime.unit import Service
from tests.base.manager import Listener
from tests.cli.conftest import Type
from tests.cli.draining import drain
from tests.cli.test_bad_input import assert_one_line
from tests.runtime.cameras.test_rtsp import Server

# somebody who is not root, whoever runs the tests
USER = next(each.pw_name for each in pwd.getpwall() if each.pw_uid and each.pw_name != "nobody")


@pytest.fixture
def config(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(unit, "TMP", ())  # where the tests' own files are
    path = tmp_path / "front.yaml"
    path.write_text(f"bundle: {tiny}\ncamera: 0\nrecord: rows.csv\n")
    path.chmod(0o600)
    return path


def settings(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_the_unit_of_a_run(edgeprune: Type, config: Path, tmp_path: Path) -> None:
    said = edgeprune("service", "--config", "front.yaml", "--user", USER)
    assert said.code == 0, said
    found = settings(said.out)
    assert found["ExecStart"] == f"{sys.executable} -m edgeprune run --config {config}"
    assert (found["User"], found["WorkingDirectory"], found["ReadWritePaths"]) == (USER, str(tmp_path), str(tmp_path))
    assert (found["Type"], found["NoNewPrivileges"], found["ProtectSystem"]) == ("notify", "yes", "strict")
    assert (found["Restart"], found["KillSignal"], found["StateDirectory"]) == (
        "on-failure", "SIGTERM", "edgeprune-front"
    )  # fmt: skip
    assert int(found["WatchdogSec"]) > 2 * 20 and "DynamicUser" not in found
    assert said.out.splitlines()[0] == f"# written by edgeprune service --config {config}"


def test_systemd_takes_the_unit(edgeprune: Type, config: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze, of the package systemd")
    folder = tmp_path / 'a "b" 100%$HOME\\x'
    folder.mkdir()
    config = config.rename(folder / "front.yaml")
    said = edgeprune("service", "--config", config, "--user", USER)
    path = tmp_path / "edgeprune-front.service"
    path.write_text(said.out)
    done = subprocess.run([analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, check=False)
    if "masked" in done.stderr or "Failed to" in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()[:200]}")
    ours = [line for line in done.stderr.splitlines() if path.name in line]
    assert (done.returncode, ours) == (0, [])


def test_a_word_of_a_command_line() -> None:
    assert unit._word("/a/b-c.yaml") == "/a/b-c.yaml"
    assert unit._word('/a "b" 100%$HOME\\x') == '"/a \\"b\\" 100%%$$HOME\\\\x"'


def test_a_user_that_systemd_makes_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "_closed_to_others", lambda path: None)
    monkeypatch.setattr(unit, "TMP", ())
    config, python, bundle = tmp_path / "front.yaml", Path(sys.executable), tmp_path
    state = Path("/var/lib/edgeprune-front/rows.csv")
    text = Service(config, python, bundle, ["0"], [state], groups=["video"]).unit()
    found = settings(text)
    assert found["DynamicUser"] == "yes" and "User" not in found and "ReadWritePaths" not in found
    assert (found["SupplementaryGroups"], found["PrivateTmp"]) == ("video", "yes")
    for camera, writes, words in [
        ("0", [tmp_path / "rows.csv"], "who owns /var/lib/edgeprune-front alone"),
        ("csi://0", [], "/tmp/argus_socket, which a dynamic user does not see"),
    ]:
        with pytest.raises(InputError, match=words):
            Service(config, python, bundle, [camera], writes).unit()
    assert settings(Service(config, python, bundle, ["csi://0"], user=USER).unit())["PrivateTmp"] == "no"


def test_what_a_dynamic_user_may_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a" / "front.yaml"
    path.parent.mkdir()
    path.write_text("")
    for part in (path, path.parent):
        part.chmod(0o755)
    opened = [part for part in path.parents if not part.stat().st_mode & 0o001]
    assert unit._closed_to_others(path) == (opened[0] if opened else None)
    path.chmod(0o640)
    assert unit._closed_to_others(path) == path
    path.chmod(0o644)
    path.parent.chmod(0o750)
    assert unit._closed_to_others(path) == path.parent


@pytest.mark.parametrize(
    ("line", "words", "refused"),
    [
        ("", ["--user", "root"], "--user root is root"),
        ("", ["--user", "nobodys-name"], "--user nobodys-name is nobody on this machine"),
        ("bucket: half\nchooser: x", ["--user", USER], "front.yaml: bucket, chooser: --bucket has no use for"),
        ("budgt: 5ms", ["--user", USER], "did you mean 'budget'?"),
        ("out: no/such/a.mp4", ["--user", USER], "no/such is not there, where the run is to write; make it first"),
    ],
)
def test_what_makes_no_service(edgeprune: Type, config: Path, line: str, words: list[str], refused: str) -> None:
    config.write_text(f"{config.read_text()}{line}\n")
    said = edgeprune("service", "--config", config, *words)
    assert_one_line(said, refused)
    assert said.out == ""


def test_a_service_names_its_bundle_and_has_a_name(edgeprune: Type, config: Path) -> None:
    config.write_text("camera: 0\n")
    assert_one_line(edgeprune("service", "--config", config, "--user", USER), "names no bundle")
    config.write_text("bundle: b\n")
    spaced = config.rename(config.with_name("my run.yaml"))
    assert_one_line(edgeprune("service", "--config", spaced, "--user", USER), "a service is called after its file")


def test_installing(edgeprune: Type, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = tmp_path / "units"
    units.mkdir()
    monkeypatch.setattr("edgeprune.cli.service.UNITS", units)
    words = ("service", "--config", config, "--user", USER, "--install")
    for _ in range(2):  # its own may be written again
        said = edgeprune(*words)
        assert said.code == 0 and "systemctl enable --now edgeprune-front" in said.out, said
    [path] = units.iterdir()
    assert path.name == "edgeprune-front.service" and path.stat().st_mode & 0o777 == 0o644
    assert path.read_text() == edgeprune(*words[:-1]).out
    path.write_text("[Service]\n")
    assert_one_line(edgeprune(*words), "is there, and not of", "delete it")
    assert path.read_text() == "[Service]\n"
    path.unlink()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, *mode: Path(path) != units and access(path, *mode))
    refused = f"type: sudo {sys.executable} -m edgeprune service --config {config} --user {USER} --install"
    assert_one_line(edgeprune(*words), refused)
    assert not list(units.iterdir())


def start(config: Path, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "edgeprune", "run", "--config", str(config), "--json"]
    environment = os.environ | {"NOTIFY_SOCKET": str(folder / "notify")}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def test_a_run_tells_its_manager_and_drains_in_a_second_of_the_processor(tiny: Path, tmp_path: Path) -> None:
    """With everything that a run can write, a page that is watched, and a budget."""
    pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
    pytest.importorskip("uvicorn", reason="needs the page's libraries: pip install 'edgeprune[view]'")
    (tmp_path / "run.yaml").write_text(
        f"bundle: {tiny}\ncamera: synthetic://street?height=64&width=96&ahead=4&fps=15\nrealtime: true\nmeter: none\n"
        "budget: 50ms\nview: 0\nrecord: rows.csv\nout: overlay.mp4\nlabels: labels\n"
    )
    with Listener(str(tmp_path / "notify")) as manager, start(tmp_path / "run.yaml", tmp_path) as process:
        try:
            assert process.stderr
            address = next(line for line in process.stderr if "live page: " in line).split("live page: ")[1].strip()
            told = manager.wait_for("WATCHDOG=1")
            assert told[:2] == ["READY=1", "WATCHDOG=1"]
            with urllib.request.urlopen(f"{address}stream.mjpg", timeout=60) as viewer:
                viewer.read(1000)
                told = manager.wait_for("WATCHDOG=1")
                drain(process)
        finally:
            process.kill()
        assert process.stdout
        summary = json.loads(process.stdout.read())
        assert (summary["ended"], summary["budget"]["budget"]) == ("interrupted", "50ms")
        assert manager.heard()[-1] == "STOPPING=1"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["labels", "notify", "overlay.mp4", "rows.csv", "run.yaml"]


def test_the_manager_hears_of_a_run_whose_camera_is_away(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
    server = Server(40)
    (tmp_path / "run.yaml").write_text(f"bundle: {tiny}\ncamera: {server.uri}\nmeter: none\n")
    with Listener(str(tmp_path / "notify")) as manager, start(tmp_path / "run.yaml", tmp_path) as process:
        try:
            manager.wait_for("READY=1")
            server.finish.set()
            assert process.stderr
            assert any("reconnecting for up to" in line for line in process.stderr)
            manager.heard()
            assert set(manager.wait_for("WATCHDOG=1")) == {"WATCHDOG=1"}
            drain(process)
        finally:
            process.kill()


def test_a_bundle_is_replaced_under_a_service(tiny: Path, tmp_path: Path) -> None:
    """`bundle:` is a link, which leads elsewhere from one moment to the next."""
    (tmp_path / "current").symlink_to(tiny)
    shutil.copytree(tiny, tmp_path / "better")
    (tmp_path / "run.yaml").write_text(
        "bundle: current\ncamera: synthetic://street?height=64&width=96&ahead=4&fps=15\nrealtime: true\nmeter: none\n"
        "budget: 500ms\nrecord: rows.csv\n"
    )
    with Listener(str(tmp_path / "notify")) as manager, start(tmp_path / "run.yaml", tmp_path) as process:
        try:
            manager.wait_for("READY=1")
            (tmp_path / "new").symlink_to("better")
            os.replace(tmp_path / "new", tmp_path / "current")
            assert process.stderr
            assert any("better takes the old one's place" in line for line in process.stderr)
            drain(process)
        finally:
            process.kill()
        assert process.stdout
        summary = json.loads(process.stdout.read())
    assert (summary["renewals"]["switched"], summary["renewals"]["rolled_back"]) == (1, 0)
    with (tmp_path / "rows.csv").open() as file:
        indices = [int(row["index"]) for row in csv.DictReader(file)]
    assert len(indices) == summary["frames"] and indices == sorted(set(indices))

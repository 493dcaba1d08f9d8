"""`service`: the unit of a run, and how a run behaves under a service manager."""

import csv
import json
import os
import pwd
import shutil
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from edgeprune.base.access import Somebody
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
    monkeypatch.setattr(Somebody, "stopped_at", lambda *given, **kinds: None)  # which are the tester's alone
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
    assert found["ReadOnlyPaths"] == str(config)
    assert "record: lies in the folder of front.yaml, all of which the service may write to" in said.err
    assert (found["Type"], found["NoNewPrivileges"], found["ProtectSystem"]) == ("notify", "yes", "strict")
    assert (found["Restart"], found["KillSignal"], found["StateDirectory"]) == (
        "on-failure", "SIGTERM", "edgeprune-front"
    )  # fmt: skip
    assert int(found["WatchdogSec"]) > 2 * 20 and "DynamicUser" not in found
    assert said.out.splitlines()[0] == f"# written by edgeprune service --config {config}"


def test_what_an_output_needs_and_is_not_installed_is_said_before_a_unit_is_made(
    edgeprune: Type, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise InputError("--mqtt needs paho-mqtt; type: pip install 'edgeprune[mqtt]'")

    monkeypatch.setattr("edgeprune.runtime.sinks.mqtt.load_paho", missing)
    config.write_text(f"{config.read_text()}mqtt: mqtt://broker/street\n")
    assert_one_line(edgeprune("service", "--config", "front.yaml", "--user", USER), "pip install 'edgeprune[mqtt]'")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("cameras: {a: 0, b: 1}", "the configuration names several cameras, which camera is not for; leave camera out"),
        ("pipeline: all\nbudget: 50ms", "--pipeline all lets frames wait for the graphs, which --budget counts"),
        ("keep: 5GB", "--keep bounds outputs without an end"),
        ("keep: much", "--keep"),
        ("view: abc", "--view: 'abc' is no port"),
        ("mqtt: broker", "--mqtt takes mqtt://HOST/TOPIC"),
        ("call: robot.on_frame", "'robot.on_frame' names no function; type one as MODULE:FUNCTION"),
        (
            "labels: maps",
            "maps is to be new or empty at each start, and a service starts again; give it no end: labels: ",
        ),
    ],
)
def test_what_a_run_would_refuse_at_each_start_has_no_unit(
    edgeprune: Type, config: Path, lines: str, words: str
) -> None:
    config.write_text(f"{config.read_text()}{lines}\n")
    assert_one_line(edgeprune("service", "--config", "front.yaml", "--user", USER), words)


def test_label_maps_of_several_cameras_are_told_by_what_was_written(edgeprune: Type, config: Path) -> None:
    config.write_text(config.read_text().replace("camera: 0", "cameras: {a: 0, b: 1}\nlabels: maps"))
    said = edgeprune("service", "--config", "front.yaml", "--user", USER)
    assert_one_line(said, "maps is to be new or empty at each start")
    assert said.err.rstrip().endswith("/maps/")


def test_several_cameras_of_a_service_take_no_pipeline(edgeprune: Type, config: Path) -> None:
    config.write_text(config.read_text().replace("camera: 0", "cameras: {a: 0, b: 1}\npipeline: outputs"))
    said = edgeprune("service", "--config", "front.yaml", "--user", USER)
    assert_one_line(said, "the configuration names several cameras, which pipeline is not for; leave pipeline out")


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
    assert unit._word('/a "b" 100%$HOME\\x') == '"/a \\"b\\" 100%%$HOME\\\\x"'
    assert unit._argument('/a "b" 100%$HOME\\x') == '"/a \\"b\\" 100%%$$HOME\\\\x"'


def test_a_dollar_is_doubled_where_systemd_reads_variables_alone(edgeprune: Type, config: Path, tmp_path: Path) -> None:
    """`ReadWritePaths=/a$$b` names another folder, and the unit did not start."""
    folder = tmp_path / "a$b"
    folder.mkdir()
    config = config.rename(folder / "front.yaml")
    found = settings(edgeprune("service", "--config", config, "--user", USER).out)
    assert found["ExecStart"].endswith(f" --config {tmp_path}/a$$b/front.yaml")
    assert (found["ReadWritePaths"], found["ReadOnlyPaths"], found["WorkingDirectory"]) == (
        str(folder), str(config), str(folder)
    )  # fmt: skip


def test_a_user_that_systemd_makes_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Somebody, "stopped_at", lambda *given, **kinds: None)
    monkeypatch.setattr(unit, "TMP", ())
    config, python, bundle = tmp_path / "front.yaml", Path(sys.executable), tmp_path
    state = Path("/var/lib/edgeprune-front/rows.csv")
    text = Service(config, python, bundle, ["0"], {state: "record"}, groups=["video"]).unit()
    found = settings(text)
    assert found["DynamicUser"] == "yes" and "User" not in found and "ReadWritePaths" not in found
    assert (found["SupplementaryGroups"], found["PrivateTmp"]) == ("video", "yes")
    whole = {state.parent: "record"}  # a record in all of it
    assert "ReadWritePaths" not in Service(config, python, bundle, ["0"], whole, endless=whole.keys()).unit()
    rows = tmp_path / "rows.csv"
    for camera, writes, words in [
        ("0", {rows: "record"}, f"record: {rows} can't be written by a .*, who owns /var/lib/edgeprune-front alone"),
        ("csi://0", {}, "/tmp/argus_socket, which a dynamic user does not see"),
    ]:
        with pytest.raises(InputError, match=words):
            Service(config, python, bundle, [camera], writes).unit()
    for camera in ("csi://0", "CSI://0"):
        assert settings(Service(config, python, bundle, [camera], user=USER).unit())["PrivateTmp"] == "no"


def test_what_the_user_of_a_service_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever it is: systemd's own, or one of the machine. What needs it is said with it."""
    stopped: dict[Path, Path] = {}
    monkeypatch.setattr(Somebody, "stopped_at", lambda somebody, path, write=False: stopped.get(path))
    monkeypatch.setattr(unit, "TMP", ())
    config, python, bundle, clip = (tmp_path / name for name in ("front.yaml", "python", "bundle", "clip.mp4"))
    bundle.mkdir()
    for file in (config, python, clip, bundle / "manifest.json"):
        file.write_text("")
    rows = tmp_path / "out" / "rows"
    rows.mkdir(parents=True)
    for path, at, words in [
        (config, config, f"the configuration {config} can't be read by WHO; give --user NAME, one who may"),
        (python, tmp_path, f"the Python {python} can't be read by WHO, who may not enter {tmp_path}; give"),
        (bundle, python, f"bundle: {bundle} can't be read by WHO, who may not read {python}; give"),
        (
            bundle / "manifest.json",
            bundle / "manifest.json",
            f"bundle: {bundle / 'manifest.json'} can't be read by WHO; ",
        ),
        (clip, clip, f"camera: {clip} can't be read by WHO; give"),
        (rows.parent, rows.parent, f"record: {rows} can't be written by WHO, who may not write to {rows.parent}; give"),
        (rows, rows, f"record: {rows} can't be written by WHO, who may not write to {rows}; give"),
        (rows.parent, tmp_path, f"record: {rows} can't be written by WHO, who may not enter {tmp_path}; give"),
    ]:
        stopped = {path: at}
        for user in (USER, None):
            if user is None and words.startswith("record"):
                continue  # nothing but the service's own folder can be written
            writes = {rows: "record"} if user else {}
            with pytest.raises(InputError) as refused:
                Service(config, python, bundle, [str(clip)], writes, user).unit()
            assert str(refused.value).startswith(words.replace("WHO", user or "a dynamic user"))


def test_what_lies_in_tmp_is_said_with_what_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip that is played, too: a service with a /tmp of its own would not find it."""
    monkeypatch.setattr(Somebody, "stopped_at", lambda *given, **kinds: None)
    monkeypatch.setattr(unit, "TMP", (str(tmp_path / "tmp"),))
    clip = tmp_path / "tmp" / "clip.mp4"
    clip.parent.mkdir()
    clip.write_text("")
    made = partial(Service, tmp_path / "front.yaml", Path(sys.executable), tmp_path / "bundle", [str(clip)])
    with pytest.raises(InputError, match=rf"^camera: {clip} a dynamic user does not see, whose /tmp is its own; give"):
        made().unit()
    assert settings(made(user=USER).unit())["PrivateTmp"] == "no"


def test_a_pipe_and_a_meter_in_tmp_are_needed_too(
    edgeprune: Type, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe may be made by its writer, later."""
    temporary = tmp_path / "tmp"
    monkeypatch.setattr(unit, "TMP", (str(temporary),))
    text = config.read_text()
    for wrong, needed in [
        ("camera: tmp/cam.fifo", f"camera: {temporary}/cam.fifo"),
        ("camera: 0\nmeter: file:tmp/power", f"meter: {temporary}/power"),
        (f"camera: 0\nmeter: command:{temporary}/plug-watts 10.0.0.3", f"meter: {temporary}/plug-watts"),
    ]:
        config.write_text(text.replace("camera: 0", wrong))
        said = edgeprune("service", "--config", config, "--user", USER)
        assert (said.code, settings(said.out)["PrivateTmp"]) == (0, "no"), said
        assert_one_line(edgeprune("service", "--config", config), f"{needed} a dynamic user does not see")
    config.write_text(text.replace("camera: 0", "camera: 0\nmeter: file:/run/power"))
    assert settings(edgeprune("service", "--config", config, "--user", USER).out)["PrivateTmp"] == "yes"


def test_a_service_writes_where_its_outputs_lie_alone(edgeprune: Type, config: Path, tmp_path: Path) -> None:
    """A folder without an end, in which its lock lies too; of a file the folder around it, where its lock is made and it gets
    its name. Of several cameras it is the folder of their folders."""
    rows, film = tmp_path / "out" / "rows", tmp_path / "film"
    rows.mkdir(parents=True)
    film.mkdir()
    text = config.read_text().replace("record: rows.csv", "record: out/rows/\nout: film/a.mp4\n")
    for cameras in ("camera: 0", "cameras: {front: 0, back: 1}"):
        config.write_text(text.replace("camera: 0", cameras))
        said = edgeprune("service", "--config", config, "--user", USER)
        found = settings(said.out)
        assert found["ReadWritePaths"] == f"{film} {rows}"
        assert "ReadOnlyPaths" not in found and "may write to" not in said.err
        rows.rmdir()  # systemd makes no folder that a unit names
        said = edgeprune("service", "--config", config, "--user", USER)
        assert_one_line(said, f"{rows} is not there, where the run is to write; make it first: mkdir -p {rows}")
        rows.mkdir()


def test_a_folder_beside_the_configuration_opens_nothing_around_it(
    edgeprune: Type, config: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows").mkdir()
    config.write_text(config.read_text().replace("record: rows.csv", "record: rows/"))
    said = edgeprune("service", "--config", config, "--user", USER)
    found = settings(said.out)
    assert found["ReadWritePaths"] == str(tmp_path / "rows") and "ReadOnlyPaths" not in found
    assert "may write to" not in said.err


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


def test_a_service_waits_for_a_camera_that_is_not_there_yet(tiny: Path, tmp_path: Path) -> None:
    """As after a power cut. Its manager hears that the start goes on, and ends it at any time."""
    pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
    (tmp_path / "run.yaml").write_text(
        f"bundle: {tiny}\ncamera: rtsp://127.0.0.1:1/live\nmeter: none\ngive_up: 2h\nrecord: rows.csv\n"
    )
    with Listener(str(tmp_path / "notify")) as manager, start(tmp_path / "run.yaml", tmp_path) as process:
        try:
            assert process.stderr
            assert any("; trying again for up to 2 h" in line for line in process.stderr)
            told = manager.wait_for("WATCHDOG=1") + manager.wait_for("WATCHDOG=1")
            assert set(told) == {"EXTEND_TIMEOUT_USEC=60000000", "WATCHDOG=1"}
            drain(process)
        finally:
            process.kill()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notify", "run.yaml"]


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

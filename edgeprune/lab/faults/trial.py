"""One trial: a run with a camera, a record, a video, a page that is watched and a meter; a fault at a random time; what became
of it."""

import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeprune.lab.faults import checks
from edgeprune.lab.faults.cameras import Camera, Device, WebCamera
from edgeprune.lab.faults.child import Child, Failed
from edgeprune.lab.faults.disk import Disk
from edgeprune.lab.faults.kinds import KINDS, Kind, Sensor, World
from edgeprune.lab.faults.rtsp import RtspCamera
from edgeprune.lab.faults.viewers import Viewer

START_S = 120.0  # until a run has its first frames: its libraries are read
LATEST_S = 4.0  # the fault comes so long after the first frames, at most
AGAIN = 8  # frames that have to come after it
EARLY = 0.2  # of the SIGTERMs come while a run begins
END_S = 10.0  # that a run which goes on may take to end once it is told: then systemd kills it (docs/service.md)


@dataclass(frozen=True)
class Tools:
    """What trials share: the bundle, and libraries to preload by their names."""

    bundle: Path
    libraries: Mapping[str, Path]


@dataclass(frozen=True)
class Result:
    """Of one trial. `seconds`: from the end of the fault to the first frame after it, or to the end of the run.

    `ended`: recovered, stopped cleanly, or failed; then the problems say why.
    """

    number: int
    kind: str
    about: str
    ended: str
    seconds: float
    problems: list[str]


class Trial:
    """Drawn from a seed and its number; `folder` is its own, and gone after it where nothing failed."""

    def __init__(self, number: int, kind: str, seed: int, folder: Path, tools: Tools):
        self._number, self._name, self._folder, self._tools = number, kind, folder, tools
        self._kind: Kind = KINDS[kind]
        self._chance = random.Random(f"{seed} {number} {kind}")
        able = [camera for camera in self._kind.cameras if camera != "v4l2" or "camera" in tools.libraries]
        self._camera_kind = self._chance.choice(able)
        self._meter = self._chance.choice(self._kind.meters)
        self._folders = self._chance.random() < 0.7
        self._after_s = self._chance.uniform(0, LATEST_S)
        self._early = kind == "SIGTERM" and self._chance.random() < EARLY
        self._seconds = 0.0
        self._clean_up: list[Child] = []
        ends = "folders" if self._folders else "files"
        self.about = f"{self._camera_kind} camera, {ends}, meter {self._meter}, after {self._after_s:.2f} s"
        if self._early:
            self.about += " of its beginning"

    def run(self) -> Result:
        self._folder.mkdir()
        problems: list[str] = []
        outputs = self._folder / "disk"
        disk: Disk | None = None
        camera = self._camera()
        try:
            disk = Disk(self._folder / "disk.img", outputs) if self._kind.disk else None
            outputs.mkdir(exist_ok=True)
            for problem in self._trial(camera, disk, outputs):
                problems.append(problem)  # those before a failure count too
        except (Failed, OSError, ValueError) as failure:
            problems.append(f"{type(failure).__name__}: {failure}")
        finally:
            for child in self._clean_up:
                with suppress(ProcessLookupError):
                    child.process.send_signal(signal.SIGCONT)
                child.kill()
            camera.close()
            if disk:
                if problems:
                    with suppress(OSError):  # of what can't be read
                        shutil.copytree(outputs, self._folder / "kept", dirs_exist_ok=True)
                disk.close()
        if not problems:
            shutil.rmtree(self._folder)
        ended = "failed" if problems else "recovered" if self._kind.ends is None or self._kind.again else "stopped"
        return Result(self._number, self._name, self.about, ended, self._seconds, problems)

    def _camera(self) -> Camera:
        if self._camera_kind == "v4l2":
            return Device(self._folder, self._tools.libraries["camera"])
        return WebCamera() if self._camera_kind == "http" else RtspCamera()

    def _begin(self, camera: Camera, sensor: Sensor, clock: Path, outputs: Path) -> Child:
        end = ("rows/", "film/") if self._folders else ("rows.csv", "film.mp4")
        words = ["--bundle", str(self._tools.bundle), "--camera", camera.uri, "--meter", sensor.meter(self._meter)]
        words += ["--record", f"{outputs}/{end[0]}", "--out", f"{outputs}/{end[1]}", "--view", "0", "--give-up", "90s"]
        preloaded = [library for library in [camera.environment.get("LD_PRELOAD")] if library]
        if self._kind.clock:
            preloaded.append(str(self._tools.libraries["clock"]))
        environment = {**camera.environment, "LD_PRELOAD": ":".join(preloaded), "FAKE_CLOCK": str(clock)}
        child = Child(words, environment, self._folder, outputs)
        self._clean_up.append(child)
        return child

    def _trial(self, camera: Camera, disk: Disk | None, outputs: Path) -> Iterator[str]:
        sensor, clock = Sensor(self._folder), self._folder / "clock"
        child = self._begin(camera, sensor, clock, outputs)
        if self._early:
            child.wait_until_it_hears(signal.SIGTERM, START_S)
        else:
            child.wait_for_rows(3, 0, START_S)
            Viewer(child.port())
        time.sleep(self._after_s)
        world = World(self._chance, camera, child, disk, sensor, clock, [])
        shown = 0 if self._early else child.frames_shown()
        shared, before, recorded, fault_ns = child.shared(), child.lines(), len(child.rows()), time.monotonic_ns()
        if recorded < shown - 1:
            yield f"{recorded} rows were with the kernel, where the page showed {shown} frames"
        self._kind.inject(world)
        over_ns = time.monotonic_ns()
        if self._kind.ends is None:
            self._seconds = child.wait_for_rows(AGAIN, over_ns, self._kind.within_s)
            if (health := child.health()) != "well":
                yield f"/healthz says {health}"
            child.process.send_signal(signal.SIGTERM)
            code, expected = child.wait(END_S), 0
        else:
            code, expected = child.wait(self._kind.within_s), self._kind.ends
            self._seconds = (time.monotonic_ns() - over_ns) / 1e9
        if code != expected:
            yield f"exit code {code}, {expected} expected: {child.last_line()}"
        rows = child.rows()
        if code >= 0:
            yield from checks.check_summary(child, rows, code, least_reconnects=int(self._kind.counted))
        if code == 0:
            yield from checks.check_names(child)
        yield from checks.check_rows(rows)
        yield from checks.check_words(child, code)
        yield from checks.check_left(child, code, shared, read_only=self._name == "read-only disk")
        if self._kind.again:
            yield from self._again(camera, sensor, clock, outputs)
        if child.rows() or before:
            yield from checks.check_record(child, before)
        yield from checks.check_video(child, rows, fault_ns)

    def _again(self, camera: Camera, sensor: Sensor, clock: Path, outputs: Path) -> Iterator[str]:
        """A run that is started anew in the same folder, as a service manager would, goes on there."""
        began_ns = time.monotonic_ns()
        child = self._begin(camera, sensor, clock, outputs)
        self._seconds = child.wait_for_rows(AGAIN, began_ns, START_S)
        child.process.send_signal(signal.SIGTERM)
        if code := child.wait(END_S):
            yield f"the next run ended with exit code {code}: {child.last_line()}"
        rows = [row for row in child.rows() if int(row["start_ns"]) >= began_ns]
        yield from checks.check_summary(child, rows, code)
        yield from checks.check_rows(rows)
        yield from checks.check_words(child, code)
        yield from checks.check_left(child, code, set())

"""The kinds of faults: how each is injected, and what is expected then.

`inject` returns when the fault is over, or at once where it stays. From there on frames have to come, or the run has to end,
within `within_s`: as long as a camera that is away is not asked for (12 s, reconnect.py) or a part of a body is waited for
(10 s, multipart.py), with some seconds more; ten seconds for SIGTERM, after which systemd kills (docs/service.md); else some
seconds, for a machine that does other things as well.
"""

import os
import shlex
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from edgeprune.lab.faults.cameras import Camera, Server
from edgeprune.lab.faults.child import Child
from edgeprune.lab.faults.disk import Disk
from edgeprune.lab.faults.viewers import hang

CLOCK_STEPS_S = (-20 * 365 * 86_400, -86_400, -3600, -2, 2, 3600, 86_400, 10 * 365 * 86_400)


@dataclass
class World:
    """What a fault may reach: the run, its camera, its disk, its power sensor, its clock."""

    chance: Random
    camera: Camera
    child: Child
    disk: Disk | None
    sensor: "Sensor"
    clock: Path
    hanging: list[socket.socket]


class Sensor:
    """A power sensor that is a file: `--meter file:PATH`, or a program that prints it ten times a second."""

    def __init__(self, folder: Path):
        self.path = folder / "watts"
        self.says("5.0\n")

    def meter(self, kind: str) -> str:
        """What is typed behind --meter."""
        script = f"while cat {shlex.quote(str(self.path))}; do sleep 0.1; done"
        return {"file": f"file:{self.path}", "command": f"command:sh -c {shlex.quote(script)}", "none": "none"}[kind]

    def says(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path)

    def hangs(self) -> None:
        """Whoever opens it waits."""
        self.path.unlink()
        os.mkfifo(self.path)


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        inject: see the top of the file.
        within_s: until frames come again, or the run has ended.
        ends: the exit code with which the run ends by it; None: it goes on.
        cameras: of them one is taken.
        meters: of them one is taken.
        disk: whether the outputs lie on a disk of their own.
        clock: whether the run preloads a clock that can be set.
        counted: whether the summary has to count a reconnection.
        again: whether a run is started anew in the same folder, which has to go on.
    """

    inject: Callable[[World], None]
    within_s: float
    ends: int | None = None
    cameras: tuple[str, ...] = ("http", "rtsp", "v4l2")
    meters: tuple[str, ...] = ("none", "file", "command")
    disk: bool = False
    clock: bool = False
    counted: bool = False
    again: bool = False


def unplug(world: World) -> None:
    world.camera.unplug()
    time.sleep(world.chance.uniform(0.2, 8))
    world.camera.plug()


def stall(world: World) -> None:
    world.camera.silence(True)
    time.sleep(world.chance.uniform(0.5, 14))
    world.camera.silence(False)


def corrupt(world: World) -> None:
    world.camera.damage(world.chance)


def reset(world: World) -> None:
    assert isinstance(world.camera, Server)
    for _ in range(world.chance.randint(1, 4)):
        world.camera.reset()
        time.sleep(world.chance.uniform(0, 1))


def fill_disk(world: World) -> None:
    assert world.disk
    world.disk.fill()


def fail_disk(world: World) -> None:
    assert world.disk
    world.disk.fail()


def hang_viewers(world: World) -> None:
    world.hanging += hang(world.child.port(), world.chance)
    time.sleep(world.chance.uniform(0, 3))


def fail_sensor(world: World) -> None:
    how = world.chance.randrange(5)
    if how == 4:
        world.sensor.hangs()
    elif how == 3:
        world.sensor.path.unlink()
    else:
        world.sensor.says(("error: no such bus\n", "", "nan\n")[how])
    time.sleep(world.chance.uniform(0, 3))
    if world.chance.random() < 0.5:
        world.sensor.path.unlink(missing_ok=True)
        world.sensor.says("6.0\n")


def step_clock(world: World) -> None:
    for _ in range(world.chance.randint(1, 3)):
        new = world.clock.with_suffix(".new")
        new.write_text(f"{world.chance.choice(CLOCK_STEPS_S)}")
        os.replace(new, world.clock)
        time.sleep(world.chance.uniform(0, 1))


def terminate(world: World) -> None:
    """Half of the time beside something else: the camera is away or silent, viewers hang, or the process was stopped."""
    beside = world.chance.randrange(8) if world.child.rows() else 9
    if beside == 0:
        world.camera.unplug()
    elif beside == 1:
        world.camera.silence(True)
    elif beside == 2:
        world.hanging += hang(world.child.port(), world.chance)
    if beside < 3:
        time.sleep(world.chance.uniform(0, 3))
    if beside == 3:
        world.child.process.send_signal(signal.SIGSTOP)
    world.child.process.send_signal(signal.SIGTERM)
    if beside == 3:
        time.sleep(world.chance.uniform(0, 3))
        world.child.process.send_signal(signal.SIGCONT)


def kill(world: World) -> None:
    world.child.process.send_signal(signal.SIGKILL)


def stop(world: World) -> None:
    world.child.process.send_signal(signal.SIGSTOP)
    time.sleep(world.chance.uniform(0.3, 14))
    world.child.process.send_signal(signal.SIGCONT)


KINDS: dict[str, Kind] = {
    "unplug": Kind(unplug, 25, counted=True),
    "stall": Kind(stall, 25),
    "corrupt frame": Kind(corrupt, 25),
    "server reset": Kind(reset, 25, cameras=("http", "rtsp"), counted=True),
    "disk full": Kind(fill_disk, 10, ends=3, disk=True),
    "read-only disk": Kind(fail_disk, 10, ends=3, disk=True),
    "viewer hang": Kind(hang_viewers, 5),
    "sensor error": Kind(fail_sensor, 5, meters=("file", "command")),
    "clock step": Kind(step_clock, 5, clock=True),
    "SIGTERM": Kind(terminate, 10, ends=0),
    "SIGKILL": Kind(kill, 5, ends=-signal.SIGKILL, again=True),
    "SIGSTOP": Kind(stop, 25),
}

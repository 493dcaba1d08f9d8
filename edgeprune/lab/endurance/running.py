"""`edgeprune run` in a process of its own: on a looped clip at a camera's rate, with a viewer, a record and a video."""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from edgeprune.base.errors import InputError, RunError
from edgeprune.evaluate.record_rows import read_record
from edgeprune.lab.endurance.checks import Seen
from edgeprune.lab.endurance.watching import PERIOD_S, Player, Sample, take_sample
from edgeprune.lab.served import command_of_run, served, stats
from edgeprune.runtime.cameras import open_source
from edgeprune.runtime.sinks.encode import VideoWriter

CLIP_FRAMES = 600  # 40 seconds of 15 frames
END_S = 60.0  # that a run may take to end after its last frame
LEAVE_S = 3.0  # before that the viewer leaves, and nothing more is sampled


class Place(NamedTuple):
    """Where a run of endurance has its files: one folder."""

    folder: Path

    @property
    def clip(self) -> Path:
        return self.folder / "clip.mp4"

    @property
    def rows(self) -> Path:
        return self.folder / "rows"

    @property
    def video(self) -> Path:
        return self.folder / "video"

    @property
    def log(self) -> Path:
        return self.folder / "run.log"

    def prepare(self) -> None:
        """Makes it. Raises InputError where an earlier run is in it."""
        for each in (self.rows, self.video):
            if each.is_dir() and any(each.iterdir()):
                raise InputError(f"{each} has an earlier run; name another folder with --out")
        self.folder.mkdir(parents=True, exist_ok=True)


def write_clip(camera: str, path: Path, fps: float) -> None:
    """The first frames of a recording or of the synthetic street, CLIP_FRAMES at most, as a clip of that rate."""
    path.unlink(missing_ok=True)
    source = open_source(camera)
    if source.live:
        raise InputError(f"{source.uri} is live; name a recording, which can be played in a loop")
    try:
        first = next(source)
        height, width = first.image_HW3.shape[:2]
        with VideoWriter(path, fps, height, width) as writer:
            writer.write(first.image_HW3)
            for frame in islice(source, CLIP_FRAMES - 1):
                writer.write(frame.image_HW3)
    finally:
        source.close()


def command_of(bundle: Path, place: Place, seconds: float, keep: str, more: Sequence[str] = ()) -> list[str]:
    """What is run. `more`: options of `run`."""
    run = ["--bundle", str(bundle), "--camera", str(place.clip), "--loop", "--realtime", "--view", "0"]
    run += ["--record", f"{place.rows}/", "--out", f"{place.video}/", "--keep", keep, "--seconds", f"{seconds:g}"]
    return command_of_run([*run, *more])


def watch(command: Sequence[str], place: Place, seconds: float, keep_bytes: int, quiet: bool) -> Seen:
    """Runs it to its end.

    Raises:
        RunError: it did not begin, or did not end.
    """
    folders = {"rows": place.rows, "video": place.video}
    with served(command, place.log) as (process, port):
        samples = []
        player = Player(port)
        faults = 0
        for sample in _samples(process.pid, folders, seconds - LEAVE_S):
            samples.append(sample)
            faults = stats(port)["faults"]["count"]
        player.leave()
        try:
            said, _ = process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired as error:
            raise RunError(f"the run did not end within {END_S:g} s of its time; see {place.log}") from error
        player.end()
    return Seen(
        samples=samples,
        record=read_record(place.rows),
        summary=_summary(said, place.log),
        exit_code=process.returncode,
        pictures=player.pictures,
        broken=player.broken,
        disordered=player.disordered,
        longest_gap_s=player.longest_gap_s,
        failures=player.failures,
        faults=faults,
        keep_bytes=keep_bytes,
        quiet=quiet,
    )


def _samples(process: int, folders: dict[str, Path], seconds: float) -> Iterator[Sample]:
    """One every PERIOD_S, more often in a short run, until so many seconds are over or the process is."""
    began_s = time.monotonic()
    period_s = min(PERIOD_S, seconds / 30)
    due_s = began_s
    while due_s < began_s + seconds:
        time.sleep(max(0.0, due_s - time.monotonic()))
        try:
            yield take_sample(process, folders)
        except (OSError, IndexError):  # it has ended too early, and its exit code will say so
            return
        due_s += period_s


def _summary(said: str, log: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(said))
    except ValueError as error:
        raise RunError(f"the run has no summary; see {log}") from error

"""What the host takes for the things of a frame, behind the graphs and before anything is drawn.

    python -m edgeprune.lab.host_time --things 20 --width 640 --height 480

Things are ellipses of random sizes, 3% to 40% as high as the frame, at random places; a graph of an input of 384x512 gives 100
of them, so many with a score that counts. `read` chooses them and maps their boxes back, `enlarge` makes the masks at the
frame's pixels, `json` their run lengths, as `run --areas` writes them. Milliseconds of this thread's processor time.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from edgeprune.base.exit_code import run_click
from edgeprune.base.statistics import percentiles
from edgeprune.base.table import render_table
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.runtime.tasks.things import Thing, read_things

TYPED = "python -m edgeprune.lab.host_time"
INPUT, STRIDE, MOST = (384, 512), 4, 100
SMALLEST, LARGEST = 0.03, 0.4  # a thing is as high as so much of the input, at random between them
COLUMNS = {"step": ("ms a frame", ""), "p50": ("p50", ".2f"), "p95": ("p95", ".2f")}


def random_answer(things: int, random: np.random.Generator) -> Outputs:
    """What a graph gives, best score first; `things` of MOST have a score of more than one half."""
    height, width = (side // STRIDE for side in INPUT)
    y_h1, x_w = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    boxes, masks = [], []
    for _ in range(MOST):
        half = height / 2 * np.exp(random.uniform(np.log(SMALLEST), np.log(LARGEST)))
        wide = half * random.uniform(0.5, 2)
        y, x = random.uniform(0, height), random.uniform(0, width)
        inside = np.hypot((y_h1 - y) / half, (x_w - x) / wide)
        masks.append(np.clip(255 * (1.5 - inside), 0, 255))
        boxes.append(((x - wide) / width, (y - half) / height, (x + wide) / width, (y + half) / height))
    scores = np.r_[np.linspace(0.95, 0.55, things), np.linspace(0.4, 0.0, MOST - things)]
    return {
        "classes": random.integers(0, 8, MOST).astype(np.uint8),
        "scores": scores.astype(np.float32),
        "boxes": np.array(boxes, np.float32),
        "masks": np.array(masks, np.uint8),
    }


def measure(things: int, size: tuple[int, int], frames: int) -> list[dict[str, Any]]:
    """A row for each step, and one for reading and enlarging together: what a result with masks takes."""
    random, fit = np.random.default_rng(0), Preprocess(*INPUT)
    names = [f"class{index}" for index in range(8)]
    spent: dict[str, list[float]] = {"read": [], "enlarge": [], "json": []}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        begin_ns = time.thread_time_ns()
        found = work()
        spent[step].append((time.thread_time_ns() - begin_ns) / 1e6)
        return found

    for _ in range(frames):
        outputs = random_answer(things, random)
        found: tuple[Thing, ...] = timed("read", lambda outputs=outputs: read_things(outputs, names, fit, size, 0.5))  # type: ignore[misc]
        timed("enlarge", lambda found=found: [thing.part for thing in found])  # type: ignore[misc]
        timed("json", lambda found=found: [thing.runs for thing in found])  # type: ignore[misc]
    both = [read + enlarge for read, enlarge in zip(spent["read"], spent["enlarge"], strict=True)]
    rows = {**spent, "read and enlarge": both}
    return [{"step": step, **vars(percentiles(times_ms))} for step, times_ms in rows.items()]


@click.command(help=__doc__)
@click.option("--things", default=20, show_default=True, type=click.IntRange(0, MOST))
@click.option("--width", default=640, show_default=True, type=click.IntRange(1, 16384))
@click.option("--height", default=480, show_default=True, type=click.IntRange(1, 16384))
@click.option("--frames", default=200, show_default=True, type=click.IntRange(1))
def main(things: int, width: int, height: int, frames: int) -> None:
    click.echo(render_table(measure(things, (height, width), frames), COLUMNS))


if __name__ == "__main__":
    sys.exit(run_click(main, "host_time", TYPED))

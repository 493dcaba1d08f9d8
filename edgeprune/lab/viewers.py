"""What viewers cost a run.

    python -m edgeprune.lab.viewers out/bundles/street-tiny-onnx-cpu

One run with a page; in each round it has nobody, one viewer and five for two seconds each, in random order. A viewer plays the
stream and asks for the figures once a second, in this process, without decoding anything. Time and processor time of a frame
stand beside those of the same round without viewers: trimmed means of the ratios, and their 95% bootstrap intervals. Where
others use the machine, times spread; processor time does less.
"""

import csv
import json
import math
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import click

from edgeprune.base.exit_code import run_click
from edgeprune.bundle import open_bundle
from edgeprune.lab.served import STREAM, ask, command_of_run, cpu_ms, served

TYPED = "python -m edgeprune.lab.viewers"
VIEWERS = (0, 1, 5)
BLOCK_S, SETTLE_S = 2.0, 0.3


class Block(NamedTuple):
    """So many viewers from begin_ns to end_ns, and the processor time that the run took, in milliseconds."""

    viewers: int
    begin_ns: int
    end_ns: int
    cpu_ms: float


class Viewer(threading.Thread):
    """Plays until it is ended."""

    def __init__(self, port: int):
        super().__init__(daemon=True)
        self._port, self._done = port, threading.Event()
        self.start()

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as stream:
            stream.sendall(STREAM)
            stream.settimeout(0.2)
            asked_s = 0.0
            while not self._done.is_set():
                try:
                    stream.recv(1 << 18)
                except TimeoutError:
                    continue
                if time.monotonic() > asked_s + 1:
                    asked_s = time.monotonic()
                    ask(self._port, "/stats")

    def end(self) -> None:
        self._done.set()
        self.join()


def measure(process: int, port: int, rounds: int) -> list[list[Block]]:
    """The blocks of each round."""
    found = []
    for _ in range(rounds):
        blocks = []
        for count in random.sample(VIEWERS, len(VIEWERS)):
            viewers = [Viewer(port) for _ in range(count)]
            time.sleep(SETTLE_S)
            begin_ns, before_ms = time.monotonic_ns(), cpu_ms(process)
            time.sleep(BLOCK_S)
            blocks.append(Block(count, begin_ns, time.monotonic_ns(), cpu_ms(process) - before_ms))
            for viewer in viewers:
                viewer.end()
        found.append(blocks)
    return found


def figures(block: Block, rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Of a frame: milliseconds from one to the next, of latency, and of processor time."""
    inside = [row for row in rows if block.begin_ns <= int(row["end_ns"]) <= block.end_ns]
    period_ms = (int(inside[-1]["end_ns"]) - int(inside[0]["end_ns"])) / 1e6 / (len(inside) - 1)
    frames = (block.end_ns - block.begin_ns) / 1e6 / period_ms
    latency_ms = fmean(float(row["latency_ms"]) for row in inside)
    return {"period": period_ms, "latency": latency_ms, "processor time": block.cpu_ms / frames}


def trimmed(values: Sequence[float]) -> float:
    """The mean without the tenth at either end."""
    cut = len(values) // 10
    return fmean(sorted(values)[cut : len(values) - cut])


@click.command(help=__doc__)
@click.argument("bundle")
@click.option("--camera", default="synthetic://street?seed=1", show_default=True)
@click.option("--rounds", default=60, show_default=True, type=click.IntRange(1))
def main(bundle: str, camera: str, rounds: int) -> None:
    open_bundle(Path(bundle))  # what is wrong is said here, not by a run that never serves
    with tempfile.TemporaryDirectory() as folder:
        record = f"{folder}/rows.csv"
        command = command_of_run(["--bundle", bundle, "--camera", camera, "--loop", "--view", "0", "--record", record])
        with served(command, Path(folder) / "run.log") as (process, port):
            time.sleep(3)
            measured = measure(process.pid, port, rounds)
            process.terminate()
            json.loads(process.communicate()[0])
        rows = list(csv.DictReader(Path(record).read_text().splitlines()))
    found = [{block.viewers: figures(block, rows) for block in blocks} for blocks in measured]
    for key in ("period", "latency", "processor time"):
        click.echo(
            f"{key} of a frame, ms: "
            + ", ".join(f"{n} viewers {median(each[n][key] for each in found):.1f}" for n in VIEWERS)
        )
        for count in VIEWERS[1:]:
            ratios = [math.log(each[count][key] / each[0][key]) for each in found]
            again = sorted(trimmed(random.choices(ratios, k=len(ratios))) for _ in range(2000))
            low, middle, high = (100 * math.expm1(value) for value in (again[50], trimmed(ratios), again[-51]))
            click.echo(f"  {count} viewers: {middle:+.1f}% (95%: {low:+.1f} to {high:+.1f})")


if __name__ == "__main__":
    sys.exit(run_click(main, "viewers", TYPED))

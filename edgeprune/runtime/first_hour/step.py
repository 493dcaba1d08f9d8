"""What a step of the check list is, and what it gets to work with."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.base.errors import EdgepruneError, RunError
from edgeprune.bundle import PRECISIONS, Bundle

Found = dict[str, Any]  # what a step found out, as JSON has it


class Waits(EdgepruneError):
    """A step that needs a person first: says what to do. It is tried again the next time."""


class NotHere(EdgepruneError):
    """This board, or what is installed on it, has no such thing; says what to install, where that helps."""


@dataclass(frozen=True)
class Job:
    """What every step works with.

    Attributes:
        folder: for what is large: engines, layers, logs.
        camera: the CSI camera's URI.
        earlier: what steps before found, by their names.
    """

    bundle: Bundle
    folder: Path
    camera: str
    earlier: dict[str, Found]

    def precisions(self) -> tuple[str, list[str]]:
        """The float one, and those that quantize, as the bundle has them."""
        built = self.bundle.manifest.precisions
        quantizing = [each for each in built if PRECISIONS[each].quantized]
        return next((each for each in built if each not in quantizing), built[0]), quantizing

    def bucket(self) -> str:
        """The one bucket that is looked at closely: the smallest."""
        return self.bundle.manifest.buckets[0].name


@dataclass(frozen=True)
class Step:
    """`work` raises EdgepruneError with the reason where it finds nothing."""

    name: str
    question: str
    minutes: float
    work: Callable[[Job], Found]


def run_verb(*words: object) -> dict[str, Any]:
    """What a verb of the command line prints with --json.

    Raises:
        RunError: it failed; with its last line.
    """
    program = "import sys; sys.argv[0] = 'edgeprune'; from edgeprune.cli import main; main()"
    command = [sys.executable, "-c", program, *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise RunError(f"edgeprune {words[0]} ended with {done.returncode}: {last_line(done.stderr)}")
    try:
        return dict(json.loads(done.stdout))
    except ValueError as error:
        raise RunError(
            f"edgeprune {words[0]} --json printed something else than one object: {done.stdout[:200]!r}"
        ) from error


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no reason given"

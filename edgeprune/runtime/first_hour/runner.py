"""Runs a check list: each step in a process of its own, with a time limit; what fails is written down, and the rest goes on.

A step that is done is not done again, so that the same command goes on where it was left: after a crash, or another power mode.
"""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeprune import __version__
from edgeprune.base.device import CACHE_VARIABLE, JETPACKS, board_name, l4t_release
from edgeprune.base.ending import held
from edgeprune.base.errors import EdgepruneError, InputError
from edgeprune.base.files import make_folder, write_atomic
from edgeprune.base.machine import describe_machine, temperatures_c
from edgeprune.bundle import MANIFEST, Bundle
from edgeprune.runtime.first_hour.step import Found, Job, NotHere, Step, Waits, last_line

logger = logging.getLogger(__name__)

SCHEMA = 1
DONE, FAILED, LATE, WAITS, NOT_HERE = "done", "failed", "out of time", "waits", "not here"
STEP_FILE = "step.json"  # what a step's process leaves


@dataclass(frozen=True)
class Outcome:
    """What came of a step.

    Attributes:
        status: DONE, FAILED, LATE, WAITS or NOT_HERE.
        reason: why it is not done; None where it is.
        found: of a step that is done.
    """

    status: str
    reason: str | None = None
    found: Found | None = None


@dataclass(frozen=True)
class Difference:
    """One figure of two boards, or two JetPacks, or the status of a step; None where one of them has none."""

    step: str
    figure: str
    first: float | str | None
    second: float | str | None


def work_folder(out: Path) -> Path:
    """Beside the results file: engines, layers, logs."""
    return out.absolute().with_suffix("")


def start_results(bundle: Bundle, out: Path) -> dict[str, Any]:
    """What is in `out` already, or a beginning.

    Raises:
        InputError: it can't be read, or is of another board, JetPack or bundle.
    """
    release = l4t_release()
    about = {
        "board": board_name(),
        "l4t": release,
        "jetpack": JETPACKS.get(release or ""),
        "bundle": hashlib.sha256((bundle.folder / MANIFEST).read_bytes()).hexdigest()[:16],
    }
    if not out.exists():
        return {"schema": SCHEMA, "edgeprune": __version__, "bundle": str(bundle.folder), "of": about, "steps": {}}
    results = read_results(out)
    if results["of"] != about:
        then = results["of"]
        differ = "; ".join(f"{key} {then.get(key)}, here {now}" for key, now in about.items() if then.get(key) != now)
        raise InputError(f"{out} holds results of {differ}; name another file with --out")
    return results


def read_results(path: Path) -> dict[str, Any]:
    """Raises InputError where it is no results file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"results {path} can't be read ({error}); name another file") from error
    known = isinstance(content, dict) and content.get("schema") == SCHEMA
    if not known or not isinstance(content.get("of"), dict) or not isinstance(content.get("steps"), dict):
        raise InputError(
            f"{path} is no results file of schema {SCHEMA}; name one that `python -m edgeprune.runtime.first_hour` wrote"
        )
    return content


def run_checklist(steps: Sequence[Step], bundle: Bundle, out: Path, command: Sequence[str]) -> dict[str, Any]:
    """Runs the steps that are not done, and writes `out` after each.

    Args:
        command: that does one step, whose name is put behind it: `do_step` in a process of its own.

    Returns:
        the results.

    Raises:
        InputError: `out` can't be written to or is of something else.
    """
    results = start_results(bundle, out)
    folder = make_folder(work_folder(out), "the work of the check list")
    for number, step in enumerate(steps, 1):
        if results["steps"].get(step.name, {}).get("status") == DONE:
            continue
        logger.info(f"{number} of {len(steps)}: {step.name}. {step.question} At most {step.minutes:g} min")
        row = {
            "question": step.question,
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "temperature_c": temperatures_c(),
        }
        begin = time.monotonic()
        outcome = _run(step, folder, [*command, step.name])
        seconds = time.monotonic() - begin
        results["steps"][step.name] = row | {"seconds": seconds} | asdict(outcome)
        with write_atomic(out, "results") as partial:
            partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        logger.info(f"{step.name}: {outcome.status}, {seconds:.0f} s{'; ' + outcome.reason if outcome.reason else ''}")
    return results


def _run(step: Step, folder: Path, command: Sequence[str]) -> Outcome:
    """Runs one step's process, and ends it and whatever it started."""
    left = folder / STEP_FILE
    left.unlink(missing_ok=True)
    log = folder / f"{''.join(letter if letter.isalnum() else '-' for letter in step.name)}.log"
    # engines of the check list are its own: nothing that was compiled before makes a step look fast
    environment = os.environ | {CACHE_VARIABLE: str(folder / "cache")}
    child: subprocess.Popen[bytes] | None = None
    code: int | None = None
    try:
        with log.open("w") as output, held():  # a signal finds a process that is known, or none
            child = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        with suppress(subprocess.TimeoutExpired):
            code = child.wait(step.minutes * 60)
    finally:  # trtexec and the like too, also after Ctrl-C
        if child:
            _end(child)
    if code is None:
        return Outcome(LATE, f"not done after {step.minutes:g} min; see {log}")
    try:
        return Outcome(**json.loads(left.read_text()))
    except (OSError, ValueError):
        name = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        reason = f"its process ended with {name}: {last_line(log.read_text(errors='replace'))}"
        return Outcome(FAILED, reason)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Of its session, whoever is left."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def do_step(step: Step, job: Job) -> None:
    """In the step's own process: does it, and leaves what came of it for the process that waits."""
    try:
        outcome = Outcome(DONE, found=step.work(job))
    except Waits as error:
        outcome = Outcome(WAITS, str(error))
    except NotHere as error:
        outcome = Outcome(NOT_HERE, str(error))
    except EdgepruneError as error:
        outcome = Outcome(FAILED, str(error))
    with write_atomic(job.folder / STEP_FILE, "a step") as partial:
        partial.write_text(json.dumps(asdict(outcome), default=str))


def figures(found: Any, key: str = "") -> dict[str, float]:
    """Every number in what a step found, by where it stands; of names, how many. Lists of numbers are left out: they are no
    figures but curves."""
    if isinstance(found, (bool, int, float)):
        return {key: float(found)}
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return {key: float(len(found))}
    if isinstance(found, list):  # rows, each known by the words in it
        rows = [row for row in found if isinstance(row, Mapping)]
        found = {".".join(word for word in row.values() if isinstance(word, str)): row for row in rows}
    if not isinstance(found, Mapping):
        return {}
    flat: dict[str, float] = {}
    for name, value in found.items():
        flat |= figures(value, f"{key}.{name}" if key else str(name))
    return flat


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Every figure of two results files side by side, and `status` where it differs."""
    rows: list[Difference] = []
    for name in dict.fromkeys([*first["steps"], *second["steps"]]):
        one, other = (each["steps"].get(name, {"status": "not tried", "found": None}) for each in (first, second))
        if one["status"] != other["status"]:
            rows.append(Difference(name, "status", one["status"], other["status"]))
        left, right = figures(one["found"]), figures(other["found"])
        for key in dict.fromkeys([*left, *right]):
            rows.append(Difference(name, key, left.get(key), right.get(key)))
    return rows


def this_python(*words: object) -> list[str]:
    return [sys.executable, "-m", "edgeprune.runtime.first_hour", *map(str, words)]

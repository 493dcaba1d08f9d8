"""A campaign of mutated inputs, in one process under limits: `python -m tests.fuzz.campaign --share 0.01 --work FOLDER`.

Writes `result.json` into the folder: per kind the cases, how many were accepted and refused, and the findings: what came out
that is no `EdgepruneError`, with the number of the case, which makes the same file again.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from edgeprune.base.errors import EdgepruneError
from edgeprune.bundle import MANIFEST
from edgeprune.cli.commands import run_command
from tests import bundles
from tests.fuzz.guard import Broken, Guard, limit_memory, listing
from tests.fuzz.targets import KINDS, SEEDS, Kind

RESULT = "result.json"
MOST_FINDINGS = 20  # of a kind: shown, and counted on


def run_kind(name: str, kind: Kind, cases: int, work: Path, guard: Guard, seed: int) -> dict[str, Any]:
    """`cases` mutations of a kind's seeds, in turn."""
    found: Counter[str] = Counter()
    shown: list[dict[str, Any]] = []
    seeds = [(path, path.read_bytes()) for path in kind.seeds(work)]
    begin, slowest_s = time.monotonic(), 0.0
    print(f"{name}: {cases} cases", file=sys.stderr, flush=True)  # the last line, where C code ends the process
    for index in range(cases):
        path, data = seeds[index % len(seeds)]
        folder = path.parent if path.is_relative_to(work) else work
        case = folder / f"{path.stem}-case{path.suffix}"
        case.write_bytes(kind.mutate(random.Random(f"{seed} {name} {index}"), data))
        start = time.monotonic()
        try:
            with guard.watch():
                kind.attempt(case)
            found["accepted"] += 1
        except EdgepruneError:
            found["refused"] += 1
        except (Exception, Broken) as error:
            found["findings"] += 1
            frame = traceback.extract_tb(error.__traceback__)[-1]
            about = {"case": index, "seed": path.name, "error": f"{type(error).__name__}: {error}"[:200]}
            own = [f for f in traceback.extract_tb(error.__traceback__) if "/edgeprune/" in f.filename]
            where = own[-1] if own else frame
            about["at"] = f"{where.filename.split('/edgeprune/')[-1]}:{where.lineno}"
            if len(shown) < MOST_FINDINGS or all(about["at"] != other["at"] for other in shown):
                shown.append(about)
        slowest_s = max(slowest_s, time.monotonic() - start)
    for path, data in seeds:  # a case may have been written in its seed's place
        if path.is_relative_to(work):
            path.write_bytes(data)
    return {
        "cases": cases,
        "accepted": found["accepted"],
        "refused": found["refused"],
        "findings": found["findings"],
        "slowest_s": round(slowest_s, 2),
        "seconds": round(time.monotonic() - begin, 1),
        "shown": shown,
    }


def run_verb(name: str, kind: Kind, work: Path, guard: Guard, seed: int) -> dict[str, Any]:
    """One case of a kind as a user types it: an exit code that is known, and one line where it is not 0."""
    path = kind.seeds(work)[0]
    case = (path.parent if path.is_relative_to(work) else work) / f"{path.stem}-case{path.suffix}"
    for index in range(100):  # the first that is refused, as most are
        case.write_bytes(kind.mutate(random.Random(f"{seed} {name} verb {index}"), path.read_bytes()))
        content = case.read_bytes().decode(errors="replace").replace("\0", "")
        if name == "manifest":
            case.replace(path.parent / MANIFEST)
        places = {"FILE": str(case), "FOLDER": str(path.parent), "TEXT": content, "BUNDLE": str(work / "whole")}
        out, err = io.StringIO(), io.StringIO()
        sys.argv = ["edgeprune", *(places.get(word, word) for word in kind.words)]
        try:
            with guard.watch(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run_command()
        except (Exception, Broken) as error:
            return {"code": None, "line": f"{type(error).__name__}: {error}"}
        if code:
            break
    lines = [line for line in err.getvalue().splitlines() if line.startswith("edgeprune")]
    return {"code": code, "line": lines[0] if len(lines) == 1 else f"{len(lines)} lines"}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(KINDS))
    parser.add_argument("--work", type=Path, required=True)
    asked = parser.parse_args()
    work = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)
    guard = Guard(work)
    warm = {name: list(kind.seeds(work)) for name, kind in KINDS.items()}  # imports, before memory is limited
    for name, paths in warm.items():
        for path in paths if name != "manifest" else ():
            try:
                KINDS[name].attempt(path)
            except EdgepruneError:
                continue
    bundles.write_bundle(work / "whole")
    before = listing(SEEDS.parent, Path.home())
    limit_memory()
    base_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kinds: dict[str, Any] = {}
    for name, kind in KINDS.items():
        if not asked.only or name in asked.only:
            kinds[name] = run_kind(name, kind, max(1, round(asked.share * kind.cases)), work, guard, asked.seed)
            (work / RESULT).write_text(json.dumps({"kinds": kinds}))  # what is left where C code ends the process
    verbs = {name: run_verb(name, KINDS[name], work, guard, asked.seed) for name in kinds}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    strays = sorted(listing(SEEDS.parent, Path.home()) - before)
    result = {
        "kinds": kinds,
        "verbs": verbs,
        "peak_mb": round(peak_mb),
        "imported_mb": round(base_mb),
        "strays": strays,
    }
    (work / RESULT).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

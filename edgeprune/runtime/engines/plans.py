"""Compiled TensorRT engines ("plans") of a device: built once per graph (`plan_builder`), kept in a cache, refused where they
don't fit.

A plan runs on the GPU and the TensorRT version that built it, and on no other (TensorRT developer guide, "Engine
compatibility").
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgeprune.base.device import board_name, cache_folder, typing
from edgeprune.base.errors import InputError
from edgeprune.base.files import make_folder, sha256, write_atomic
from edgeprune.base.inputs import blocks_of
from edgeprune.base.power_mode import power_mode
from edgeprune.bundle.onnx_files import external_files
from edgeprune.runtime.engines.cuda import Cuda

Stamp = tuple[Path, int, int, int]
COMPILE = "compile it with `edgeprune compile BUNDLE`"


def graph_hash(graph: Path) -> str:
    """Of a graph's file and of the files beside it that hold its constants.

    Raises:
        InputError: one of them is not there or no regular file, or it is no ONNX graph.
    """
    digest = hashlib.sha256()
    beside = [(graph.parent / name, f"the constants of {graph},") for name in sorted(external_files(graph))]
    for path, what in ((graph, "graph"), *beside):  # in blocks: of a large model more than a small board has free
        for block in blocks_of(path, what):
            digest.update(block)
    return digest.hexdigest()[:16]


def _stamp(path: Path) -> Stamp | None:
    """What changes when a file is written anew; None where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return path, status.st_ino, status.st_mtime_ns, status.st_size


class Plans:
    """The plans of this device.

    Args:
        version: of TensorRT.
        folder: the cache; default: `edgeprune.base.device.cache_folder()`.
    """

    def __init__(self, version: str, cuda: Cuda, folder: Path | None = None):
        self._hashes: dict[Stamp | None, str] = {}
        self.folder = (folder or cache_folder()) / "plans"
        self.device = {
            "tensorrt": version,
            "architecture": cuda.architecture(),
            "board": board_name(),
            "cuda": cuda.version,
            "tf32": "off",
        }

    def path(self, graph: Path) -> Path:
        """Where a graph's plan lies, or would."""
        stamp = _stamp(graph)  # hashed once in a process, weights and all: a bundle never changes
        if stamp is None or stamp not in self._hashes:
            self._hashes[stamp] = graph_hash(graph)
        return self.folder / f"{graph.stem}-{self._hashes[stamp]}.plan"

    def _fitting(self, graph: Path) -> tuple[Path, dict[str, Any]]:
        """A graph's plan as far as its description tells, and the description.

        Raises:
            InputError: it was not compiled yet, or otherwise, or by another device or TensorRT.
        """
        path = self.path(graph)
        if not path.is_file():
            raise InputError(f"graph {graph} is not compiled for this device; {COMPILE}")
        about = self._about(path)
        for key in ("tensorrt", "architecture", "tf32"):
            if about.get(key) != self.device[key]:
                raise InputError(
                    f"{path} was compiled for {key} {about.get(key)}, here it is {self.device[key]}; {COMPILE}"
                )
        if typing() == "weak" and about.get("typing") != "weak":
            raise InputError(f"{path} was compiled strongly typed, and EDGEPRUNE_TYPING is weak; {COMPILE}")
        return path, about

    def read(self, graph: Path) -> bytes:
        """A graph's plan.

        Raises:
            InputError: it was not compiled yet, or otherwise, by another device or TensorRT, or was damaged since.
        """
        path, about = self._fitting(graph)
        try:
            plan = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} can't be read ({error.strerror}); {COMPILE}") from error
        if hashlib.sha256(plan).hexdigest() != about.get("sha256"):
            raise InputError(f"{path} is not what was compiled (its hash differs); {COMPILE}")
        return plan

    def has(self, graph: Path) -> bool:
        """Whether `read` would give it."""
        return self.about(graph) is not None

    def about(self, graph: Path) -> dict[str, Any] | None:
        """What is known of a graph's plan: `sha256`, `typing` and what it fits; None where `read` would not give it."""
        try:
            path, about = self._fitting(graph)
            stamp = _stamp(path)
            if stamp is None or stamp not in self._hashes:
                self._hashes[stamp] = sha256(path)
        except (InputError, OSError):
            return None
        return about if self._hashes[stamp] == about.get("sha256") else None

    def size(self, graph: Path) -> int:
        """Bytes of a graph's plan; nearly all of them are weights, which the device holds once more when it is opened."""
        return self.path(graph).stat().st_size

    def _about(self, path: Path) -> dict[str, Any]:
        try:
            content = json.loads(path.with_suffix(".json").read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def other_power_mode(self, graph: Path) -> str | None:
        """A line where a plan was compiled in another power mode: its kernels were timed at other clocks."""
        then, now = self._about(self.path(graph)).get("power_mode"), power_mode()
        if then is None or now is None or then == now:
            return None
        return (
            f"{graph.stem} was compiled in power mode {then!r}, now it is {now!r}; "
            "`edgeprune compile BUNDLE --again` times anew"
        )

    @property
    def timing(self) -> Path:
        """The cache of what was timed while plans were built on this device, in the power mode that it is in now."""
        timed = self.device | {"power_mode": power_mode()}
        return self.folder / f"timing-{hashlib.sha256(json.dumps(timed).encode()).hexdigest()[:8]}.cache"

    def check(self, graphs: Iterable[Path]) -> None:
        """Says what is missing before minutes are spent.

        Raises:
            InputError: a graph or its constants are not there, or it is no ONNX graph; or the cache can't be written to.
        """
        for graph in graphs:
            graph_hash(graph)
        make_folder(self.folder, "compiled engines")

    def store(self, graph: Path, plan: bytes, seconds: float, beside: dict[str, Any] | None = None) -> Path:
        """Keeps a graph's plan with what it fits. `beside`: what else is said of it; `names` are those that another builder
        gave to inputs and outputs, and what they are called in the graph."""
        make_folder(self.folder, "compiled engines")
        path = self.path(graph)
        about = self.device | {
            "graph": str(graph),
            "sha256": hashlib.sha256(plan).hexdigest(),
            "power_mode": power_mode(),
            "seconds": round(seconds, 1),
            **(beside or {}),
        }
        # the description last: a plan without one is refused
        path.with_suffix(".json").unlink(missing_ok=True)
        for target, content in ((path, plan), (path.with_suffix(".json"), json.dumps(about, indent=1).encode())):
            with write_atomic(target, "compiled engine", shared=True) as partial:
                partial.write_bytes(content)
        return path

    def names(self, graph: Path) -> dict[str, str]:
        """What inputs and outputs of a graph's plan are called in the graph, where the plan names them otherwise."""
        names = self._about(self.path(graph)).get("names", {})
        return names if isinstance(names, dict) else {}

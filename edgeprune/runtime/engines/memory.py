"""Lack of memory, said as such: how much was wanted, how much is free, what to do. It is no fault of a bundle or a file."""

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgeprune.base.errors import RunError

MEMINFO, STATM = "proc/meminfo", "proc/self/statm"
MB = 1e6
# How libraries say it: C++ (ONNX Runtime, OpenVINO), ONNX Runtime's arena, the loader of shared libraries, CUDA and TensorRT.
SAYINGS = (
    "bad_alloc",
    "bad allocation",
    "failed to allocate memory",
    "cannot allocate memory",
    "failed to map segment",
    "out of memory",
    "outofmemory",
    "insufficient memory",
    "could not be allocated",
)
REMEDY = (
    "stop other programs (on a Jetson the desktop: sudo systemctl isolate multi-user.target), or open one bucket alone with "
    "--bucket"
)


def lacks_memory(error: BaseException | str) -> bool:
    """Whether an exception, or a line of a log, says that memory ran out."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(saying in said for saying in SAYINGS)


def free_host_bytes(root: Path = Path("/")) -> int | None:
    """What this process can still get of the host's memory without swapping, page cache included: what the host has, or what a
    limit on the process leaves (`ulimit -v`), whichever is less. None where neither tells. `root`: for tests."""
    known = [size for size in (_available(root), _left_of_limit(root)) if size is not None]
    return min(known, default=None)


def _available(root: Path) -> int | None:
    try:
        lines = (root / MEMINFO).read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _left_of_limit(root: Path) -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    try:
        taken = int((root / STATM).read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None
    return None if limit == resource.RLIM_INFINITY else max(limit - taken, 0)


def no_memory(what: str, needed: int | None = None, free: int | None = None, remedy: str = REMEDY) -> RunError:
    """The error to raise.

    Args:
        what: what could not be done, as `ONNX Runtime can't open graph.onnx`.
        needed, free: bytes, where known.
    """
    sizes = {"needed": needed, "free": free}
    known = ", ".join(f"{size / MB:,.0f} MB {said}" for said, size in sizes.items() if size is not None)
    return RunError(f"{what}: out of memory{f' ({known})' if known else ''}; {remedy}")


@contextmanager
def saying_memory(what: str) -> Iterator[None]:
    """Says so where a library runs out of the host's memory in the block; its other exceptions pass. `what`: see `no_memory`.

    Raises:
        RunError: out of memory.
    """
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise no_memory(what, free=free_host_bytes()) from error
        raise


def fitting(sizes: Mapping[str, int], beside: int, limit: int) -> list[str]:
    """Which of several parts fit into memory together: the last, which every frame can fall back on, then the first ones.

    Args:
        sizes: bytes of each, in order; `beside`: of what is there in any case.
        limit: bytes for all of it.

    Returns:
        names, in order; none where not even the last fits.
    """
    *others, last = sizes
    taken, kept = beside + sizes[last], [last]
    if taken > limit:
        return []
    for name in others:
        if taken + sizes[name] <= limit:
            taken += sizes[name]
            kept.insert(-1, name)
    return kept

"""What may be said of engines on the command line."""

from collections.abc import Sequence

from edgeprune.base.errors import InputError, choose
from edgeprune.runtime.engines import ENGINES


def known_engines(names: Sequence[str]) -> list[str]:
    """Refuses an unknown engine before anything runs."""
    for name in names:
        choose(ENGINES, name, "engine")
    return list(names)


def check_threads(engines: Sequence[str], threads: int | None) -> None:
    """Refuses a count of threads where no engine takes one."""
    if threads and not any(ENGINES[name].takes_threads for name in engines):
        raise InputError(f"{' and '.join(engines)} has no use for --threads, its kernels run on a GPU; leave it out")

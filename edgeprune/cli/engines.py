"""What may be said of engines on the command line."""

from collections.abc import Sequence

from edgeprune.base.errors import choose
from edgeprune.runtime.engines import ENGINES


def known_engines(names: Sequence[str]) -> list[str]:
    """Refuses an unknown engine before anything runs."""
    for name in names:
        choose(ENGINES, name, "engine")
    return list(names)

"""Tasks: what the outputs of a bundle's graphs mean. Adding one is a new file and a row in TASKS."""

from collections.abc import Callable

from edgeprune.bundle import Manifest
from edgeprune.runtime.tasks.result import FrameFacts, Result, Task
from edgeprune.runtime.tasks.semantic import Semantic

__all__ = ["TASKS", "FrameFacts", "Result", "Task", "open_task"]

TASKS: dict[str, Callable[[Manifest], Task]] = {
    "semantic": Semantic,
}


def open_task(manifest: Manifest) -> Task:
    """The task of a bundle. Every bundle's is `semantic` so far; a manifest names none."""
    return TASKS["semantic"](manifest)

"""Tasks: what the outputs of a bundle's graphs mean. Adding one is a new file and a row in TASKS."""

from edgeprune.base.errors import choose
from edgeprune.bundle import Manifest
from edgeprune.runtime.tasks.instance import Instance
from edgeprune.runtime.tasks.result import FrameFacts, Result
from edgeprune.runtime.tasks.semantic import Semantic
from edgeprune.runtime.tasks.task import Agreement, Task

__all__ = ["TASKS", "Agreement", "FrameFacts", "Result", "Task", "find_task", "open_task"]

TASKS: dict[str, type[Task]] = {"semantic": Semantic, "instance": Instance}


def find_task(name: str) -> type[Task]:
    """A row of TASKS. Raises InputError with the choices for an unknown name."""
    return choose(TASKS, name, "task")


def open_task(manifest: Manifest) -> Task:
    """The task of a bundle. Raises InputError as `find_task`."""
    return find_task(manifest.task)(manifest)

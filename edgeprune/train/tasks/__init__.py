"""The tasks that a phase can train: one file and one row each."""

import torch

from edgeprune.base.errors import choose
from edgeprune.data.datasets import DataSet
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.tasks.instance import Instance
from edgeprune.train.tasks.policy_alone import LabelsForPolicy
from edgeprune.train.tasks.semantic import Semantic
from edgeprune.train.tasks.task import Task

TASKS: dict[str, type[Task]] = {"semantic": Semantic, "instance": Instance}


def find_task(recipe: Recipe) -> type[Task]:
    """The task of the recipe's model. Raises InputError for an unknown one."""
    return choose(TASKS, recipe.model.task, "task")


def reads_things(recipe: Recipe, phase: Phase) -> bool:
    """Whether a phase learns from the things of its frames, and not from labels alone. Raises InputError as `find_task`."""
    return phase.kind != "policy" and find_task(recipe).things


def make_task(recipe: Recipe, phase: Phase, data_set: DataSet, histogram: list[float], device: torch.device) -> Task:
    """The task of the recipe's model, or of a phase that trains the policy alone.

    Args:
        histogram: share of each class in the phase's data.
        device: what the phase trains on.

    Raises:
        InputError: an unknown task.
    """
    of_model = find_task(recipe)(recipe, phase, data_set, histogram, device)
    if phase.kind != "policy":
        return of_model
    task = LabelsForPolicy(recipe, phase, data_set, histogram, device)
    task.of_model = of_model
    return task

"""The tasks that a phase can train: one file and one row each."""

from collections.abc import Callable

import torch

from edgeprune.base.errors import choose
from edgeprune.data.datasets import DataSet
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.tasks.policy_alone import LabelsForPolicy
from edgeprune.train.tasks.instance import Instance
from edgeprune.train.tasks.semantic import Semantic
from edgeprune.train.tasks.task import Task

TASKS: dict[str, Callable[[Recipe, Phase, DataSet, list[float], torch.device], Task]] = {"semantic": Semantic, "instance": Instance}


def make_task(recipe: Recipe, phase: Phase, data_set: DataSet, histogram: list[float], device: torch.device) -> Task:
    """The task of the recipe's model.

    Args:
        histogram: share of each class in the phase's data.
        device: what the phase trains on.

    Raises:
        InputError: an unknown task.
    """
    if phase.kind == "policy":
        return LabelsForPolicy(recipe, phase, data_set, histogram, device)
    return choose(TASKS, recipe.model.task, "task")(recipe, phase, data_set, histogram, device)

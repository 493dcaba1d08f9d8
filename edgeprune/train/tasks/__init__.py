"""The tasks that a phase can train: one file and one row each."""

import torch

from edgeprune.data.datasets import DataSet
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.tasks.semantic import Semantic
from edgeprune.train.tasks.task import Task

TASKS = {"semantic": Semantic}


def make_task(recipe: Recipe, phase: Phase, data_set: DataSet, histogram: list[float], device: torch.device) -> Task:
    """The task of the recipe's model, which is semantic: `ModelSpec` knows no other head.

    Args:
        histogram: share of each class in the phase's data.
        device: what the phase trains on.
    """
    return TASKS["semantic"](recipe, phase, data_set, histogram, device)

"""What the PyTorch model of a row scores where its method has no graphs: a function for each task, by the names that rows have
figures under. Gates keep the best tokens at the target ratios."""

from collections.abc import Callable

from edgeprune.base.errors import choose
from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.model.network import Network
from edgeprune.train.tasks.instance_scores import judge_things
from edgeprune.train.tasks.task import Judged
from edgeprune.train.validation import score

Judge = Callable[[Network, DataSet, Samples, int | None], Judged]


def judge_labels(model: Network, data_set: DataSet, samples: Samples, frames: int | None) -> Judged:
    """mIoU, boundary F and mIoU of small things, at the model's input size."""
    found = score(model, data_set, samples, frames, None, boundaries=True)
    figures = {"miou": found.miou, "boundary_f": found.boundary_f, "small_things_miou": found.small_things_miou}
    return Judged(figures, found.tokens)


JUDGES: dict[str, Judge] = {
    "semantic": judge_labels,
    "instance": lambda model, data_set, samples, frames: judge_things(model, data_set, samples, frames, None),
}


def judge(model: Network, data_set: DataSet, samples: Samples, frames: int | None) -> Judged:
    """The figures of the model's task, and the tokens that its blocks processed.

    Args:
        samples: from `evaluate.accuracy.open_scored`.
        frames: so many, spread evenly; None: all.

    Raises:
        InputError: an unknown task, or nothing in the samples can be scored.
    """
    return choose(JUDGES, model.spec.task, "task")(model, data_set, samples, frames)

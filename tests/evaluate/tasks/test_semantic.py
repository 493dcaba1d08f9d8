"""Of a graph that does not answer with labels no score is made."""

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data import Sample
from edgeprune.data.datasets import DataSet, StreetSplit
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.confusion import ConfusionMatrix
from edgeprune.evaluate.tasks import METRICS
from edgeprune.evaluate.tasks.semantic import LabelCounts, LabelScores


def test_a_peer_without_labels_is_refused() -> None:
    split = StreetSplit(seed=0, frames=1)
    scores = LabelScores(Preprocess(8, 8), DataSet(name="two", train=split, val=split, names=["a", "b"]))
    sample = Sample("x", np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match="unknown output of a graph: 'labels'; choices: logits"):
        scores.add({"logits": np.zeros((2, 8, 8))}, sample)


def test_every_metric_names_the_figure_that_precisions_are_chosen_by() -> None:
    assert [(metric.figure, metric.called()) for metric in METRICS.values()] == [
        ("miou", "mIoU"),
        ("mask_ap", "mask AP"),
    ]
    for metric in METRICS.values():
        assert metric.brief[0] == metric.figure and set(metric.brief) <= set(metric.columns)


def test_any_label_maps_can_be_scored_together() -> None:
    random, split = np.random.default_rng(0), StreetSplit(seed=0, frames=1)
    data_set = DataSet(name="two", train=split, val=split, names=["a", "b", "c"])
    answers, frames = LabelCounts(Preprocess(8, 8), data_set), []
    for _ in range(3):
        label_hw, label_HW = (random.integers(0, 3, size).astype(np.uint8) for size in ((4, 4), (8, 8)))
        label_HW[0, 0] = data_set.ignore_index
        frames.append((label_hw.repeat(2, 0).repeat(2, 1), label_HW))
        answers.add({"labels": label_hw}, Sample("x", np.zeros((8, 8, 3), np.uint8), label_HW))
    for places in ([0, 1, 2], [2], [1, 1, 0]):
        matrix = ConfusionMatrix(3, data_set.ignore_index)
        for place in places:
            matrix.update(*frames[place])
        assert answers.figure_of(places) == matrix.miou

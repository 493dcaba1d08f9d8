"""Of a graph that does not answer with labels no score is made."""

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data import Sample
from edgeprune.data.datasets import DataSet, StreetSplit
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.tasks import METRICS
from edgeprune.evaluate.tasks.semantic import LabelScores


def test_a_peer_without_labels_is_refused() -> None:
    split = StreetSplit(seed=0, frames=1)
    scores = LabelScores(Preprocess(8, 8), DataSet(name="two", train=split, val=split, names=["a", "b"]))
    sample = Sample("x", np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match="unknown output of a graph: 'labels'; choices: logits"):
        scores.add({"logits": np.zeros((2, 8, 8))}, sample)


def test_every_metric_names_the_figure_that_precisions_are_chosen_by() -> None:
    assert [metric.figure for metric in METRICS.values()] == ["miou", "mask_ap"]
    for metric in METRICS.values():
        assert metric.brief[0] == metric.figure and set(metric.brief) <= set(metric.columns)

"""Averaged weights."""

import pytest
import torch

from edgeprune.train.average import WeightAverage
from tests import models


def test_the_average_follows_the_weights_faster_at_first() -> None:
    model = models.model(models.card("dense", depth=1))
    average = WeightAverage(model, 0.9)
    expected = model.norm.bias.detach().clone()
    for step in range(30):
        with torch.no_grad():
            model.norm.bias.add_(1)
        decay = min(0.9, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * model.norm.bias.detach()
        average.update(model, step)
        torch.testing.assert_close(average.tensors["norm.bias"], expected)
    counters = [value for key, value in average.tensors.items() if key.endswith("num_batches_tracked")]
    assert counters and all(not counter.is_floating_point() for counter in counters)


def test_without_a_decay_nothing_is_averaged() -> None:
    model = models.model(models.card("dense", depth=1))
    average = WeightAverage(model, 0.0)
    average.update(model, 0)
    assert average.tensors == {}
    with average.applied_to(model):
        pass


def test_the_model_has_the_average_for_as_long_as_it_is_lent() -> None:
    model = models.model(models.card("dense", depth=1))
    average = WeightAverage(model, 0.9)
    before = model.norm.bias.detach().clone()
    with torch.no_grad():
        model.norm.bias.add_(1)
    with pytest.raises(KeyError), average.applied_to(model):
        assert torch.equal(model.norm.bias, before)
        raise KeyError
    torch.testing.assert_close(model.norm.bias, before + 1)

"""What every task learns from a teacher, whatever its answers are."""

from pathlib import Path

import pytest
import torch

from edgeprune.model.network import Prediction
from edgeprune.train.losses import distance_to_tokens
from edgeprune.train.tasks.task import Taught
from tests import models


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_tokens_are_learnt_by_the_phases_weight_alone(tmp_path: Path, weight: float) -> None:
    """In FP32, whatever the network's type is; where none are learnt, teachers need not have any."""
    phase = models.changed(models.recipe(tmp_path), "dense", distill_tokens=weight, teacher="dense").phases["dense"]
    generator = torch.Generator().manual_seed(0)
    ours_BND, theirs_BND = (torch.randn(2, 6, 4, generator=generator).bfloat16() for _ in range(2))
    said = Prediction(torch.zeros(()), ours_BND, masked=None)  # type: ignore[arg-type]
    found = Taught([], theirs_BND if weight else None).distance_of_tokens(said, phase)
    assert found.dtype == torch.float32 and found.shape == ()
    torch.testing.assert_close(found, weight * distance_to_tokens(ours_BND, theirs_BND))

"""Models of patches of 14: sizes that no power of two divides, in PyTorch and in graphs."""

from typing import Any

import numpy as np
import pytest
import torch

from edgeprune import street as synthetic
from edgeprune.base.errors import InputError
from edgeprune.base.reading import parse
from edgeprune.bundle.target import load_target
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.graphs import export_family
from edgeprune.export.lint import lint_graph
from edgeprune.export.parity import measure_parity
from edgeprune.model.card import Card
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec
from edgeprune.model.stem import ConvStem
from edgeprune.pruning.selection import select_top
from tests import models

HEIGHT, WIDTH = 4 * 14, 6 * 14  # 14 and 21 at stride 4, 7 and 11 at stride 8


def card(policy: str, stem: str, **options: Any) -> Card:
    found = models.card(policy, stem=stem, **options)
    found.model = ModelSpec.model_validate(found.model.model_dump() | {"patch": 14, "height": HEIGHT, "width": WIDTH})
    return found


def frames(count: int) -> np.ndarray:
    return np.stack([synthetic.scene(seed, HEIGHT, WIDTH)[0] for seed in range(count)])


@pytest.mark.parametrize("stem", ["patch", "patch-conv"])
def test_logits_have_half_the_frame_size_for_crops_too(stem: str) -> None:
    model = models.model(card("svit", stem))
    images_B3HW = torch.from_numpy(frames(2)).permute(0, 3, 1, 2).float()
    assert model.grid == (4, 6) and model(images_B3HW).raw.shape == (2, 11, HEIGHT // 2, WIDTH // 2)
    assert model(images_B3HW[..., :28, :70]).raw.shape == (2, 11, 14, 35)


def test_both_forms_and_the_graphs_answer_alike() -> None:
    """With superpatches, whose CNN sees patches of 16, and an exit, which leaves logits on the grid."""
    model = models.model(card("combined", "patch-conv"))
    schedule = model.policy.schedule
    bucket = Bucket("half", schedule.round_up(schedule.target_counts))
    select = select_top(schedule.candidates(bucket.counts))
    with torch.no_grad():
        for frame_HW3 in frames(2):
            image_13HW = torch.from_numpy(frame_HW3).permute(2, 0, 1)[None].float()
            found = model.tail(*model.trunk(torch.from_numpy(frame_HW3)), bucket.counts)
            torch.testing.assert_close(found, model(image_13HW, select).raw, rtol=1e-3, atol=1e-3)
    thresholds = [0.0] * len(model.policy.gated)
    graphs = export_family(model, [bucket], thresholds, "tensorrt")
    for name, proto in graphs.named().items():
        assert lint_graph(name, to_fp16(proto), load_target("jetson-orin").lint) == []
    (row,) = measure_parity(model, [bucket], "fp32", graphs, frames(2), threads=1)
    assert row.label_agreement > 0.9999 and row.max_abs < 0.05 and row.selection_agreement == 1.0


def test_losses_of_superpatches_and_exits_count_pixels_of_their_patches() -> None:
    model: Segmenter = models.model(card("combined", "patch")).train()
    labels_BHW = torch.from_numpy(np.stack([synthetic.scene(seed, HEIGHT, WIDTH)[1] for seed in range(2)])).long()
    images_B3HW = torch.from_numpy(frames(2)).permute(0, 3, 1, 2).float()
    prediction = model(images_B3HW, None, labels_BHW)
    prediction.masked.loss.backward()
    assert float(prediction.masked.loss.detach()) > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"patch": 14, "stem": "patch"}, "height: .*multiple of the patch, 14, found 384"),
        ({"patch": 14}, "patch: .*stem conv make patches of 16; choose stem patch or patch-conv, found 14"),
        ({"patch": 15}, "patch: .*14 or 16, found 15"),
        ({"width": 500}, "width: .*multiple of the patch, 16, found 500"),
    ],
)
def test_sizes_and_stems_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"model: {said}"):
        parse(ModelSpec, changes, "model")
    with pytest.raises(InputError, match="stem conv has patches of 16, not 14"):
        ConvStem(192, 14)

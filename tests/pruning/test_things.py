"""Every policy of POLICIES with the instance task's head: both of its forms see the same things, and so do graphs.

What a policy's graphs are by themselves `test_graphs.py` holds; here that a head of another kind follows them.
"""

from typing import Any

import pytest
import torch

from edgeprune.bundle.target import load_target
from edgeprune.data.region import Region
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.graphs import export_family, named_outputs
from edgeprune.export.lint import lint_graph
from edgeprune.export.parity import measure_parity
from edgeprune.model.heads.answers import Answers
from edgeprune.model.policy import Bucket
from edgeprune.pruning.methods import POLICIES
from edgeprune.pruning.selection import select_top
from tests import models
from tests.export import instances

ORIN = load_target("jetson-orin")
COUNTS = [20, 12, 5, 3]


TIE = 1e-3  # two logits nearer than that are told apart by rounding, another on each machine


def last(raw: Answers) -> tuple[torch.Tensor, ...]:
    return raw.logits[-1], raw.boxes[-1], raw.masks[-1]


def tied(heatmap_KHW: torch.Tensor, ours_Q: torch.Tensor, theirs_Q: torch.Tensor) -> bool:
    """Whether one of the places that only one side chose is nearly as good as a neighbour, or as another of them."""
    apart = sorted(set(ours_Q.tolist()) ^ set(theirs_Q.tolist()))
    values = heatmap_KHW.amax(0).flatten()[apart or ours_Q].sort().values
    padded_KHW = torch.nn.functional.pad(heatmap_KHW, (1, 1, 1, 1), value=-torch.inf)
    around_K9P = torch.nn.functional.unfold(padded_KHW[:, None], 3)
    own_K1P = heatmap_KHW.flatten(1)[:, None]
    best_K9P = (around_K9P > own_K1P - TIE) & (own_K1P > around_K9P.amax(1, keepdim=True) - TIE)
    near_P = (best_K9P.sum(1) > 1).any(0)  # itself and another
    return bool(near_P[apart].any()) or bool((values.diff() < TIE).any())


@pytest.mark.parametrize("region", [None, Region(("......", "..##..", ".#####", "####.."))], ids=["whole", "region"])
@pytest.mark.parametrize("name", [name for name in POLICIES if not models.policy(name).not_exportable])
def test_training_form_equals_inference_form(name: str, region: Region | None) -> None:
    model = instances.model(instances.card(name, depth=4))
    if region is not None:
        if model.policy.not_in_region:
            pytest.skip(model.policy.not_in_region)
        model.restrict(region)
    schedule = model.policy.schedule
    counts = list(schedule.round_up([min(count, model.policy.tokens) for count in COUNTS[: len(schedule.gated)]]))
    images_B3HW = models.images(2)
    with torch.no_grad():
        together = model(images_B3HW, select_top(schedule.candidates(counts))).raw
        compared = 0
        for index, image_3HW in enumerate(images_B3HW):
            raw = model.tail(*model.trunk(image_3HW.permute(1, 2, 0).to(torch.uint8)), counts)
            heatmap_KHW = together.heatmap_BKPhPw[index]
            torch.testing.assert_close(raw.heatmap_BKPhPw[0], heatmap_KHW, rtol=1e-3, atol=2e-3)
            if not torch.equal(raw.places_BQ[0], together.places_BQ[index]):
                assert tied(heatmap_KHW, raw.places_BQ[0], together.places_BQ[index])
                continue
            compared += 1
            for expected_B, got_1 in zip(last(together), last(raw), strict=True):
                torch.testing.assert_close(got_1[0], expected_B[index], rtol=1e-3, atol=2e-3)
            assert named_outputs(model, raw)["masks"].shape == (
                instances.QUERIES,
                models.HEIGHT // 4,
                models.WIDTH // 4,
            )
    assert compared


# superpatches, an exit and a gate in one; the others are alike but for what `test_graphs.py` holds
FORMS: list[Any] = [
    "combined",
    *(pytest.param(name, marks=pytest.mark.slow) for name in POLICIES if name != "combined"),
]


# of the weights: with others places whose tokens ALGM merged are exactly as hot in an untrained head, and either is taken
SEEDS = {"algm": 9}


@pytest.mark.parametrize("name", FORMS)
def test_graphs_find_what_pytorch_finds_and_lint_finds_nothing(name: str) -> None:
    if models.policy(name).not_exportable:
        pytest.skip(str(models.policy(name).not_exportable))
    model = instances.model(instances.card(name, depth=4), SEEDS.get(name, 0))
    schedule = model.policy.schedule
    bucket = Bucket("few", tuple(schedule.round_up(schedule.target_counts)) if schedule.gated else ())
    family = export_family(model, [bucket], [0.0] * len(schedule.gated), ORIN.dialect)
    [row] = measure_parity(model, [bucket], "fp32", family, models.frames(4), threads=1)
    assert row.label_agreement == 1 and row.max_abs < 0.05, row
    # equal selections, as `uniform` makes them, may be one node of a graph
    assert row.selection_agreement == 1 or (row.selection_agreement is None and name in ("dense", "uniform")), row
    for graph, proto in family.named().items():
        assert lint_graph(graph, to_fp16(proto), ORIN.lint) == lint_graph(graph, proto, ORIN.lint) == []

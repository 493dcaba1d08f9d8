"""Queries that read how far their masks reach."""

from math import log

import pytest
import torch

from edgeprune.bundle.target import load_target
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.graphs import export_family
from edgeprune.export.lint import lint_graph
from edgeprune.export.parity import measure_parity
from edgeprune.model.heads.decoder import MaskExtent
from edgeprune.model.heads.places import anchors
from edgeprune.model.policy import Bucket
from tests import models
from tests.export import instances
from tests.model.heads.test_instance import head, network

ORIN = load_target("jetson-orin")


@pytest.mark.parametrize(("rows", "columns"), [((2, 18), (4, 12)), ((0, 6), (10, 30))])
def test_of_a_rectangle_its_middle_and_its_sides_are_read(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """In first sides of 32 pixels, from a place that is not its middle."""
    height, width = 20, 32
    anchor_P4 = anchors((height, width), (8 * height, 8 * width))
    masks_HW = torch.full((height, width), -30.0)
    masks_HW[slice(*rows), slice(*columns)] = 30.0
    extent = MaskExtent()
    with torch.no_grad():
        extent.proj.weight[:4] = torch.eye(4)
        read_4 = extent(masks_HW.reshape(1, 1, -1), anchor_P4[:, :2], anchor_P4[None, 5 * width + 7][:, None])[0, 0, :4]
    middle = [8 * (sum(side) / 2) for side in (columns, rows)]
    expected = [(middle[0] - 60) / 32, (middle[1] - 44) / 32]
    torch.testing.assert_close(read_4[:2], torch.tensor(expected), atol=0.1, rtol=0.02)
    sides = [8 * (side[1] - side[0]) for side in (columns, rows)]
    torch.testing.assert_close(read_4[2:], torch.tensor([log(side / 32) for side in sides]), atol=0.05, rtol=0)


def test_it_begins_with_nothing_and_is_learnt() -> None:
    plain, reading = network(), network(mask_extent=True)
    more = set(reading.state_dict()) - set(plain.state_dict())
    assert more == {f"head.extents.{number}.proj.{part}" for number in range(3) for part in ("weight", "bias")}
    made = head(mask_extent=True)
    made.initialise()
    assert made.extents is not None and not any(part.any() for part in made.extents.parameters())
    reading.load_state_dict(
        plain.state_dict() | {f"head.{key}": value for key, value in made.extents.state_dict(prefix="extents.").items()}
    )
    with torch.no_grad():
        before, after = plain(models.images(2)).raw, reading(models.images(2)).raw
        for part in ("logits", "boxes", "masks"):
            torch.testing.assert_close(getattr(after, part), getattr(before, part))
    reading.train()(models.images(2)).raw.boxes[-1].sum().backward()
    for extent in reading.head.extents:  # type: ignore[union-attr]
        grad = extent.proj.weight.grad
        assert grad is not None and grad.isfinite().all() and grad.any()


def test_graphs_find_what_pytorch_finds_and_lint_finds_nothing() -> None:
    described = instances.card("svit", depth=4)
    spec = described.model.model_copy(update={"mask_extent": True})
    model = instances.model(described.model_copy(update={"model": spec}))
    torch.manual_seed(0)
    with torch.no_grad():
        for extent in model.head.extents:  # type: ignore[union-attr]
            extent.proj.weight.normal_(std=0.1)
    schedule = model.policy.schedule
    bucket = Bucket("few", tuple(schedule.round_up(schedule.target_counts)))
    family = export_family(model, [bucket], [0.0] * len(schedule.gated), ORIN.dialect)
    [row] = measure_parity(model, [bucket], "fp32", family, models.frames(4), threads=1)
    assert row.label_agreement == 1 and row.max_abs < 0.05, row
    for graph, proto in family.named().items():
        assert lint_graph(graph, to_fp16(proto), ORIN.lint) == lint_graph(graph, proto, ORIN.lint) == []

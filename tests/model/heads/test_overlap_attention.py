"""Queries that read each other by how much their masks overlap."""

import torch

from edgeprune.bundle.target import load_target
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.graphs import export_family
from edgeprune.export.lint import lint_graph
from edgeprune.export.parity import measure_parity
from edgeprune.model.heads.decoder import HEADS, STRENGTH, OverlapBias
from edgeprune.model.policy import Bucket
from tests import models
from tests.export import instances
from tests.model.heads.test_instance import network

ORIN = load_target("jetson-orin")


def test_the_bias_is_the_overlap_of_the_masks_times_a_factor() -> None:
    """The same mask; half of one; another place; one that is nowhere."""
    inside_BQP = torch.full((1, 4, 400), -40.0)
    inside_BQP[0, 0, :200] = inside_BQP[0, 1, :100] = inside_BQP[0, 2, 200:] = 40.0
    bias = OverlapBias()
    with torch.no_grad():
        bias.factor_H.copy_(torch.tensor([0.5, -1.0]))
        bias_BHQQ = bias(inside_BQP)
    assert bias_BHQQ.shape == (1, HEADS, 4, 4)
    first_QQ = bias_BHQQ[0, 0] / (0.5 * STRENGTH)
    assert torch.allclose(first_QQ, -bias_BHQQ[0, 1] / STRENGTH, atol=1e-6)
    expected = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.5, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(first_QQ, expected, atol=0.01, rtol=0)


def test_without_it_a_head_has_the_weights_that_it_had() -> None:
    plain, related = network(), network(overlap_attention=True)
    more = set(related.state_dict()) - set(plain.state_dict())
    assert more == {f"head.layers.{number}.overlaps.factor_H" for number in range(3)}
    assert not set(plain.state_dict()) - set(related.state_dict())


def test_its_factors_are_learnt() -> None:
    model = network(overlap_attention=True).train()
    raw = model(models.images(2)).raw
    (raw.logits[-1].square().sum() + raw.boxes[-1].sum()).backward()
    for layer in model.head.layers:  # type: ignore[union-attr]
        grad_H = layer.overlaps.factor_H.grad  # type: ignore[union-attr]
        assert grad_H is not None and grad_H.isfinite().all() and (grad_H != 0).all()


def test_graphs_find_what_pytorch_finds_and_lint_finds_nothing() -> None:
    described = instances.card("svit", depth=4)
    spec = described.model.model_copy(update={"overlap_attention": True})
    model = instances.model(described.model_copy(update={"model": spec}))
    schedule = model.policy.schedule
    bucket = Bucket("few", tuple(schedule.round_up(schedule.target_counts)))
    family = export_family(model, [bucket], [0.0] * len(schedule.gated), ORIN.dialect)
    [row] = measure_parity(model, [bucket], "fp32", family, models.frames(4), threads=1)
    assert row.label_agreement == 1 and row.max_abs < 0.05, row
    for graph, proto in family.named().items():
        assert lint_graph(graph, to_fp16(proto), ORIN.lint) == lint_graph(graph, proto, ORIN.lint) == []

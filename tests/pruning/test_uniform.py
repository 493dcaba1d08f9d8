"""The uniform control: even for every count, blind, the same in every frame, gate and phase."""

from itertools import pairwise

import torch

from edgeprune.export.graphs import export_family
from edgeprune.export.parity import measure_parity
from edgeprune.model.policy import Bucket
from edgeprune.pruning.methods.random import Random
from edgeprune.pruning.methods.uniform import Uniform
from edgeprune.pruning.selection import select_top, select_uniform
from edgeprune.pruning.stagger import even_scores
from tests import models


def test_it_is_one_constant_table() -> None:
    model = models.model(models.card("uniform"))
    made = model.policy
    assert isinstance(made, Uniform) and isinstance(made, Random) and not list(made.parameters())
    assert set(made.state_dict()) == {"scores_N"}
    first, second = made.scores(0, torch.randn(2, models.N, 192)), made.scores(2, torch.randn(2, models.N, 192))
    assert torch.equal(first, second) and torch.equal(first[0], first[1])


def test_training_keeps_what_inference_keeps() -> None:
    model = models.model(models.card("uniform", keep=[0.8, 0.5, 0.2]))
    expected = model(models.images(3)).masked.keep_GBN
    trained = model.train()(models.images(3)).masked
    assert all(torch.equal(one_BN, other_BN) for one_BN, other_BN in zip(expected, trained.keep_GBN, strict=True))
    assert trained.loss == 0
    for deeper_BN, before_BN in zip(expected[1:], expected, strict=False):
        assert (deeper_BN <= before_BN).all()  # a coarser grid of the same


def test_a_crop_has_a_table_of_its_own_grid() -> None:
    model = models.model(models.card("uniform", keep=[0.5])).train()
    keeps = model(models.images(2)[..., :48, :64]).masked.keep_GBN
    expected_N = (even_scores((3, 4)) > 0.5).float()
    assert all(torch.equal(keep_BN, expected_N.expand(2, -1)) for keep_BN in keeps)


def test_a_share_of_the_batch_keeps_every_token() -> None:
    model = models.model(models.card("uniform", full=0.5)).train()
    for keep_BN in model(models.images(4)).masked.keep_GBN:
        assert (keep_BN[:2] == 1).all() and (keep_BN[2:] == 0).any()


def test_a_uniform_control_keeps_as_many_of_what_is_offered() -> None:
    model = models.model(models.card("dynamicvit"))
    counts = model.policy.schedule.round_up([16, 8, 4])
    keeps = model(models.images(2), select_uniform(model.policy.schedule, counts)).masked.keep_GBN
    assert [keep_BN.sum(-1).tolist() for keep_BN in keeps] == [[count] * 2 for count in counts]
    for before_BN, after_BN in pairwise(keeps):
        assert (after_BN <= before_BN).all()
    assert all(torch.equal(keep_BN[0], keep_BN[1]) for keep_BN in keeps)  # whatever the frames show


def test_cells_that_may_merge_are_chosen_evenly_too() -> None:
    """Whatever the CNN says of them: the control is blind before the first block as it is at the gates."""
    model = models.model(models.card("cts-svit"))
    schedule = model.policy.schedule
    own, even = (
        model(models.images(2), select).masked.keep_GBN
        for select in (select_top(schedule.target_candidates), select_uniform(schedule, schedule.target_counts))
    )
    for own_BN, even_BN in zip(own, even, strict=True):
        assert own_BN.sum() == even_BN.sum()
        assert torch.equal(even_BN[0], even_BN[1])
    rows, columns = schedule.candidate_grid(0) or (0, 0)
    assert (2 * rows, 2 * columns) == schedule.grid
    apart_S = even_scores((rows, columns)).topk(schedule.target_candidates[0]).indices
    first_N = torch.arange(models.N).view(schedule.grid)[::2, ::2].flatten()
    assert even[0][0].view(schedule.grid)[1::2, 1::2].flatten().nonzero().flatten().tolist() == sorted(apart_S.tolist())
    assert bool(even[0][0][first_N].all())  # one of each cell is always there


def test_where_groups_from_anywhere_merge_a_uniform_control_leaves_the_choice_to_the_policy() -> None:
    model = models.model(models.card("tome"))
    schedule, images_B3HW = model.policy.schedule, models.images(1)
    own = model(images_B3HW, select_top(schedule.target_candidates)).masked.keep_GBN
    even = model(images_B3HW, select_uniform(schedule, schedule.target_counts)).masked.keep_GBN
    assert all(torch.equal(own_BN, even_BN) for own_BN, even_BN in zip(own, even, strict=True))
    assert schedule.candidate_grid(0) is None


def test_gates_of_equal_counts_share_their_selection_in_the_graph() -> None:
    """One TopK stands for several gates there; parity compares labels and logits, which still agree."""
    model = models.model(models.card("uniform"))
    bucket = Bucket("k12", (12, 12, 12))
    family = export_family(model, [bucket], [0.0] * 3, "onnxruntime")
    assert sum(node.op_type == "TopK" for node in family.tails["k12"].graph.node) < len(model.policy.gated) == 3
    [row] = measure_parity(model, [bucket], "fp32", family, models.frames(2), threads=1)
    assert row.label_agreement == 1 and row.max_abs < 0.05 and row.selection_agreement is None

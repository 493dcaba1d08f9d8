"""What training forms share, by hand."""

import torch

from edgeprune.pruning.masking import attended, mix, offered, with_whole_images
from edgeprune.pruning.selection import select_none, select_top


def test_an_image_where_nothing_is_there_attends_to_everything() -> None:
    there_BN = torch.tensor([[True, False, True], [False, False, False]])
    assert attended(there_BN).tolist() == [[True, False, True], [True, True, True]]


def test_what_is_not_there_is_chosen_last() -> None:
    scores_BS = torch.tensor([[9.0, -50.0, 3.0, -60.0]])
    there_BS = torch.tensor([[False, True, True, True]])
    assert select_top([3])(0, offered(scores_BS, there_BS)).tolist() == [[0, 1, 1, 1]]


def test_a_decision_learns_from_the_difference_that_it_makes() -> None:
    keep_BN = torch.tensor([[1.0, 0.0]], requires_grad=True)
    mixed_BND = mix(keep_BN, torch.tensor([[[5.0], [6.0]]]), torch.tensor([[[1.0], [2.0]]]))
    assert mixed_BND.flatten().tolist() == [5, 2]
    mixed_BND.sum().backward()
    assert keep_BN.grad is not None and keep_BN.grad.tolist() == [[4, 4]]


def test_the_first_images_of_a_batch_stay_whole() -> None:
    scores_BS = torch.randn(3, 4)
    assert with_whole_images(select_none, 2)(0, scores_BS).sum(-1).tolist() == [4, 4, 0]
    assert with_whole_images(select_none, 0) is select_none

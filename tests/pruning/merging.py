"""Merging by loops: what the tests of merging methods hold them against."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import select_top
from tests import models

Cells = list[list[int]]  # of each group in raster order, the cell that its token keeps first


def best_pairs_by_loops(features_ME: np.ndarray) -> list[tuple[float, int, int]]:
    """(cosine, source, partner) of each source, the most similar first."""
    unit_ME = features_ME / np.linalg.norm(features_ME, axis=1, keepdims=True)
    found = []
    for source in range(0, len(unit_ME), 2):
        cosines = [(float(unit_ME[source] @ unit_ME[other]), other) for other in range(1, len(unit_ME), 2)]
        cosine, partner = max(cosines)
        found.append((cosine, source, partner))
    return sorted(found, reverse=True)


def merge_by_loops(cells: Cells, features_ME: np.ndarray, merging: int) -> Cells:
    """The groups after the `merging` most similar pairs have merged."""
    merged = [list(group) for group in cells]
    gone = set()
    for _, source, partner in best_pairs_by_loops(features_ME)[:merging]:
        merged[partner] += cells[source]
        gone.add(source)
    return [group for place, group in enumerate(merged) if place not in gone]


def share_by_loops(x_ND: Tensor, cells: Cells) -> Tensor:
    """Every cell takes the mean over its group's cells."""
    shared_ND = x_ND.clone()
    for group in cells:
        shared_ND[group] = x_ND[group].mean(0)
    return shared_ND


def embedded(model: Segmenter, image: int) -> Tensor:
    return model.embed(models.images(image + 1))[0][image]


def groups_of(masked_group_1N: Tensor) -> set[frozenset[int]]:
    """The sets of cells that share a number."""
    return {frozenset((masked_group_1N == number).nonzero()[:, 0].tolist()) for number in masked_group_1N.unique()}


@torch.no_grad()
def check_both_forms(
    model: Segmenter, counts: list[int], by_loops: Callable[[Segmenter, Tensor, list[int]], tuple[Tensor, list[Cells]]]
) -> None:
    """Tokens and groups of the masked form, and tokens of the gathered one, are those of the method written as loops."""
    for image in range(2):
        x_ND = embedded(model, image)
        expected_ND, steps = by_loops(model, x_ND, counts)
        select = select_top(model.policy.schedule.candidates(counts))
        masked = model.policy.masked(list(model.blocks), x_ND[None], models.VIEW, select)
        torch.testing.assert_close(masked.x_BND[0], expected_ND, rtol=1e-4, atol=1e-4)
        assert masked.group_GBN is not None
        for keep_1N, group_1N, cells in zip(masked.keep_GBN, masked.group_GBN, steps, strict=True):
            assert keep_1N[0].nonzero()[:, 0].tolist() == [group[0] for group in cells]
            assert groups_of(group_1N[0]) == {frozenset(group) for group in cells}
        x_trunk_ND, _, scores_S = model.trunk(torch.from_numpy(models.frames(image + 1)[image]))
        assert scores_S is not None
        gathered = model.policy.gathered(list(model.blocks)[1:], x_trunk_ND, counts, scores_S)
        torch.testing.assert_close(gathered.x_ND, expected_ND, rtol=1e-4, atol=1e-4)

"""Merging by loops: what the tests of merging methods hold them against."""

import numpy as np
from torch import Tensor

from edgeprune.model import Segmenter
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

"""What the first decision makes of tokens, by hand."""

from pathlib import Path

import numpy as np
import pytest

from edgeprune.runtime.first_decision import FirstDecision, TokenMap, sides_of
from tests import bundles


def test_the_best_tokens_stay() -> None:
    decision = FirstDecision((2, 3), False, {"half": [3, 1], "full": [6, 6]})
    scores_S = np.array([0.5, -1, 2, 3, 0, 0.4], np.float16)
    found = TokenMap(decision, scores_S, "half")
    assert found.level_GG is not None and found.level_GG.tolist() == [[1, 0, 1], [1, 0, 0]]
    assert (found.left, found.tokens) == (3, 6)
    assert TokenMap(decision, scores_S, "full").left == 6
    assert TokenMap(decision, scores_S[:5], "half").left is None  # of something else


def test_the_purest_cells_merge() -> None:
    """Of the two 4x4 one; of the 2x2 outside of it, one more."""
    decision = FirstDecision((4, 8), True, {"small": [17, 14], "full": [32, 32]})
    of_two_S, of_eight_S = np.array([-1.0, 5]), np.array([-9.0, -9, 1, 2, -9, -9, -8, 3])
    scores_S = np.concatenate([of_two_S, of_eight_S])
    level_GG = decision.levels(scores_S, "small")
    assert level_GG is not None
    assert level_GG.tolist() == [[4] * 4 + [1] * 4] * 2 + [[4] * 4 + [2, 2, 1, 1]] * 2
    assert TokenMap(decision, scores_S, "small").left == 14
    full_GG = decision.levels(scores_S, "full")
    assert full_GG is not None and (full_GG == 1).all()


@pytest.mark.parametrize("grid", [(24, 32), (18, 24), (9, 14), (4, 6)])
def test_the_sides_of_cells_follow_from_how_many_scores_there_are(grid: tuple[int, int]) -> None:
    counts = {side: (grid[0] // side) * (grid[1] // side) for side in (16, 8, 4, 2)}
    fit = [side for side, cells in counts.items() if cells]
    for number in range(1, 1 << len(fit)):
        sides = [side for place, side in enumerate(fit) if number >> place & 1]
        assert sides_of(grid, sum(counts[side] for side in sides)) == sides
    assert sides_of(grid, sum(counts.values()) + 1) == [] and sides_of(grid, grid[0] * grid[1]) == []


def test_of_a_bundle(tmp_path: Path) -> None:
    found = FirstDecision.of(bundles.write_bundle(tmp_path / "gated").manifest)
    assert found is not None and found.grid == (bundles.ROWS, bundles.COLUMNS) and not found.merges
    assert {name: counts[0] for name, counts in found.counts.items()} == bundles.BUCKETS
    assert FirstDecision.of(bundles.write_bundle(tmp_path / "dense", gated=False).manifest) is None
    region = ["......", "######", "######", "###..."]
    assert FirstDecision.of(bundles.write_bundle(tmp_path / "region", region=region).manifest) is None
    tome = bundles.write_bundle(tmp_path / "tome").seen_with(policy="tome")
    assert FirstDecision.of(tome.manifest) is None


def test_whose_turn_it_was() -> None:
    """Of three whose turn it is two are computed; the third waits."""
    scores_S = np.array([10100, 0.4, 10099, 10128, 0.2, 0], np.float32)
    decision = FirstDecision((2, 3), False, {"two": [2], "four": [4], "still": [0]}, remembers=True)
    turns = {name: TokenMap(decision, scores_S, name).turn_GG for name in decision.counts}
    assert {name: turn_GG.astype(int).tolist() for name, turn_GG in turns.items() if turn_GG is not None} == {
        "two": [[1, 0, 0], [1, 0, 0]],
        "four": [[1, 0, 1], [1, 0, 0]],
        "still": [[0] * 3] * 2,
    }
    assert TokenMap(FirstDecision((2, 3), False, {"two": [2]}), scores_S, "two").turn_GG is None
    assert TokenMap(decision, scores_S[:5], "two").turn_GG is None  # of something else


def test_a_policy_that_may_merge_shows_its_gates_where_it_has_no_cells() -> None:
    """`combined` without `levels`: its trunk scores tokens."""
    level_GG = FirstDecision((2, 3), True, {"small": [2]}).levels(np.array([3, 0, 9, 1, 2, 0], np.float32), "small")
    assert level_GG is not None and level_GG.tolist() == [[1, 0, 1], [0, 0, 0]]

"""What stands beside what is found, and in the line above."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgeprune
from edgeprune.bundle import Manifest
from edgeprune.runtime.first_decision import FirstDecision, TokenMap
from edgeprune.runtime.remembered_tokens import RememberedTokens
from edgeprune.runtime.tasks import Result, tokens_beside
from edgeprune.runtime.tasks.overlay import Overlay
from edgeprune.runtime.tasks.token_lines import LET_GO_SHARE, TURN_RGB
from edgeprune.runtime.tasks.tokens_beside import MERGES, MOST_PX, REMEMBERED, UNKNOWN, TokensBeside, said
from tests import bundles

LARGE = 10


def found(folder: Path, task: str = "semantic", large: int = LARGE) -> tuple[Manifest, Any]:
    bundle = bundles.write_bundle(folder, task=task)
    with edgeprune.open(folder) as stream:
        assert stream.map_tokens(60)
        return bundle.manifest, stream.segment(bundles.frame_with(5).repeat(large, 0).repeat(large, 1))


def with_facts(result: Any, **facts: Any) -> Result:
    changed: Result = replace(result, facts=replace(result.facts, **facts))
    return changed


def remembered(result: Any) -> Result:
    """As if tokens 3, 7 and 9 were computed, the last as it was its turn."""
    decision = FirstDecision((bundles.ROWS, bundles.COLUMNS), False, {"m3": [3]}, remembers=True)
    scores_N = np.zeros(bundles.N, np.float32)
    scores_N[[3, 7, 9]] = 0.5, 0.3, 10100.0
    tokens = RememberedTokens(3, bundles.N - 3, 1)
    return with_facts(result, bucket="m3", remembered=tokens, token_map=TokenMap(decision, scores_N, "m3"))


def test_what_was_computed_is_bright_and_what_had_its_turn_is_framed(tmp_path: Path) -> None:
    manifest, result = found(tmp_path)
    result = remembered(result)
    picture_HW3 = TokensBeside(manifest).draw(result)
    height, width, _ = result.frame.image_HW3.shape
    assert np.array_equal(
        picture_HW3[:, :width], result.overlay(status="bucket m3: 3 of 24 tokens computed, 21 carried, 1 refreshed")
    )
    assert not np.array_equal(picture_HW3[:, :width], result.overlay())  # which has times in its line
    side = height // bundles.ROWS
    for token in range(bundles.N):
        top, left = (place * side for place in divmod(token, bundles.COLUMNS))
        part = np.s_[top + 20 : top + side - 20, left + 20 : left + side - 20]
        share = 1 if token in (3, 7, 9) else 1 - LET_GO_SHARE
        if 0 < top < height - side:  # no bar lies over it
            np.testing.assert_allclose(picture_HW3[:, width:][part], share * result.frame.image_HW3[part], atol=1)
        turn = (picture_HW3[top + 20 : top + side - 20, width + left : width + left + 4] == TURN_RGB).all()
        assert turn == (token == 9)


def test_the_line_says_what_became_of_the_tokens(tmp_path: Path) -> None:
    _, result = found(tmp_path / "areas")
    assert said(result) == "bucket quarter: by itself, 44% of the dense model's tokens"
    assert said(remembered(result)) == "bucket m3: 3 of 24 tokens computed, 21 carried, 1 refreshed"
    _, things = found(tmp_path / "things", "instance")
    counts = things.counts()
    assert sum(counts.values()) == 2
    assert said(remembered(things)).endswith(", 1 refreshed, 2 things")
    one = with_facts(things)
    one.outputs["scores"][:] = [0.9, 0, 0]  # type: ignore[attr-defined]
    assert said(one).endswith("of the dense model's tokens, 1 thing")


def test_each_kind_of_decision_has_its_legend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, result = found(tmp_path)
    titles: list[tuple[Overlay, str]] = []

    def note(self: Overlay, image_HW3: np.ndarray, status: str, layers: object = ()) -> np.ndarray:
        titles.append((self, status))
        return image_HW3

    monkeypatch.setattr(Overlay, "draw_over", note)
    monkeypatch.setattr(Overlay, "caption", note)
    merges = FirstDecision((bundles.ROWS, bundles.COLUMNS), True, {"quarter": [21]})
    cells = bundles.ROWS // 2 * (bundles.COLUMNS // 2) + 1  # one of 4x4, and those of 2x2
    of_cells = TokenMap(merges, np.arange(cells, dtype=np.float32), "quarter")
    beside = TokensBeside(manifest)
    changed = [
        with_facts(result, token_map=each) for each in (of_cells, None, TokenMap(merges, np.zeros(5), "quarter"))
    ]
    for each in (result, remembered(result), *changed):
        beside.draw(each)
    assert [title for _, title in titles] == [
        "first decision of svit: 6 of 24 tokens are left",
        "the tokens that this frame computed",
        f"first decision of svit: {of_cells.left} of 24 tokens are left",
        "no decision of svit can be seen",
        "no decision of svit can be seen",
    ]
    assert [drawing for drawing, _ in titles[1:]] == [REMEMBERED, MERGES, UNKNOWN, UNKNOWN]
    assert titles[0][0] is tokens_beside.LETS_GO


def test_things_are_outlined_on_the_left(tmp_path: Path) -> None:
    manifest, result = found(tmp_path, "instance")
    picture_HW3 = TokensBeside(manifest).draw(result)
    width = result.frame.image_HW3.shape[1]
    assert np.array_equal(picture_HW3[:, :width], result.overlay(status=said(result)))
    assert not np.array_equal(result.overlay(), result.overlay(status=said(result)))


def test_large_frames_are_reduced_and_others_fitted_to_the_first(tmp_path: Path) -> None:
    manifest, result = found(tmp_path, large=60)
    beside = TokensBeside(manifest)
    height, width = 60 * bundles.H // 3, 60 * bundles.W // 3
    assert 60 * bundles.W > 2 * MOST_PX
    assert beside.draw(result).shape == (height, 2 * width, 3)
    other_HW3 = np.asarray(Image.fromarray(result.frame.image_HW3).resize((300, 300)))
    other = with_facts(result, frame=replace(result.frame, image_HW3=other_HW3))
    assert beside.draw(other).shape == (height, 2 * width, 3)

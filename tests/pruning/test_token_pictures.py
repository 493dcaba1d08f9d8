"""Pictures of a selection: what stayed, what came back, what went, which tokens are one group."""

import numpy as np

from edgeprune.pruning.token_pictures import (
    BACK_RGB,
    LET_GO,
    LINE_RGB,
    OUTLINE_RGB,
    Selection,
    draw_decision,
    draw_heat,
    draw_selection,
    legend,
    outline_of,
    outlined,
)

GRID = (2, 3)
IMAGE_HW3 = np.full((32, 48, 3), 200, np.uint8)


def selection(keep: list[list[int]], groups: list[list[int]] | None = None) -> Selection:
    keep_GN = np.array(keep, bool)
    groups_GN = None if groups is None else np.array(groups)
    return Selection(GRID, list(range(2, 2 + len(keep))), keep_GN, 1 + keep_GN.sum(0), groups_GN)


def token(picture_HW3: np.ndarray, row: int, column: int) -> list[int]:
    """The colour in the middle of a token's cell."""
    return picture_HW3[row * 16 + 8, column * 16 + 8].tolist()


def test_tokens_that_are_let_go_are_dark_and_those_that_come_back_green() -> None:
    chosen = selection([[1, 0, 0, 1, 1, 0], [1, 1, 0, 0, 1, 0]])
    first, second = (draw_decision(IMAGE_HW3, chosen, index) for index in (0, 1))
    plain, dark = [200] * 3, [round(200 * LET_GO)] * 3
    assert [token(first, *divmod(n, 3)) for n in range(6)] == [plain, dark, dark, plain, plain, dark]
    back = [round(0.55 * 200 + 0.45 * channel) for channel in BACK_RGB]
    assert token(second, 0, 1) == back
    assert token(second, 0, 0) == plain and token(second, 1, 0) == dark and token(second, 0, 2) == dark


def test_groups_are_outlined_and_all_their_tokens_are_there() -> None:
    chosen = selection([[1, 0, 1, 0, 1, 1]], [[4, 4, 2, 4, 7, 9]])  # tokens 0, 1 and 3 are one
    drawn_HW3 = draw_decision(IMAGE_HW3, chosen, 0)
    assert all(token(drawn_HW3, *divmod(n, 3)) == [200] * 3 for n in range(6))
    assert drawn_HW3[8, 32].tolist() == list(LINE_RGB)  # between tokens 1 and 2
    assert drawn_HW3[8, 16].tolist() == [200] * 3  # within the group
    assert drawn_HW3[16, 8].tolist() == [200] * 3 and drawn_HW3[16, 24].tolist() == list(LINE_RGB)


def test_a_group_that_comes_back_is_green_whole_and_the_legend_names_what_is_there() -> None:
    groups = [4, 4, 2, 4, 7, 9]  # tokens 0, 1 and 3 are one
    chosen = selection([[0, 0, 1, 0, 1, 1], [1, 0, 1, 0, 0, 1]], [groups, groups])
    drawn_HW3 = draw_decision(IMAGE_HW3, chosen, 1)
    back = [round(0.55 * 200 + 0.45 * channel) for channel in BACK_RGB]
    assert [token(drawn_HW3, *divmod(n, 3)) for n in (0, 1, 3)] == [back] * 3
    assert token(drawn_HW3, 0, 2) == [200] * 3 and token(drawn_HW3, 1, 1) == [round(200 * LET_GO)] * 3
    assert [mark.split(":")[0] for mark in legend(chosen).split(";  ")] == ["yellow lines", "dark", "green"]
    assert legend(selection([[1, 0, 1, 0, 1, 1]], [groups])).split(":")[0] == "yellow lines"  # all are in a kept group
    assert legend(selection([[1, 0, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1]])).startswith("dark") and legend(_dense()) == ""


def test_more_blocks_are_lighter() -> None:
    chosen = selection([[1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    heat_HW3 = draw_heat(IMAGE_HW3, chosen, 3).astype(float)
    most, some, least = (sum(token(heat_HW3, 0, column)) for column in (0, 2, 1))
    assert most > some > least


def test_the_picture_has_a_panel_for_each_decision() -> None:
    three = draw_selection(IMAGE_HW3, IMAGE_HW3, selection([[1] * 6] * 3), depth=4, panel_px=96)
    none = draw_selection(IMAGE_HW3, IMAGE_HW3, _dense(), depth=4, panel_px=96)
    assert three.shape[1] > none.shape[1] and three.shape[0] > 2 * 64
    panels = [three[6 + 20 + 32, 6 + 48], three[6 + 20 + 32 + 64 + 26, 6 + 48]]
    assert all(panel.tolist() == [200] * 3 for panel in panels)  # the frame itself, in the first of each row


def _dense() -> Selection:
    return Selection(GRID, [], np.zeros((0, 6), bool), np.full(6, 4))


def test_a_block_processes_what_the_last_decision_before_it_kept() -> None:
    keep_GN = np.array([[1, 0, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1]], bool)
    chosen = Selection(GRID, [2, 2, 4], keep_GN, np.zeros(6, int))
    assert chosen.processed(5).astype(int).tolist() == [
        [1] * 6, keep_GN[1].tolist(), keep_GN[1].tolist(), keep_GN[2].tolist(), keep_GN[2].tolist()
    ]  # fmt: skip
    inside_N = np.array([1, 1, 1, 0, 0, 0], bool)
    assert (
        Selection(GRID, [], keep_GN[:0], np.zeros(6, int), inside_N=inside_N).processed(2).tolist()
        == [inside_N.tolist()] * 2
    )


def test_outlines_run_along_the_inner_borders_of_things() -> None:
    one_HW, other_HW = np.zeros((32, 48), bool), np.zeros((32, 48), bool)
    one_HW[4:14, 6:16] = True
    other_HW[:12, 30:] = True  # in a corner of the frame
    outline_HW = outline_of([one_HW, other_HW], (32, 48))
    assert not outline_HW[5:13, 7:15].any() and outline_HW[4:14, 6:16].sum() == 100 - 64
    assert not outline_HW[:11, 31:].any() and outline_HW[:12, 30:].sum() == 12 * 18 - 11 * 17
    assert not (outline_HW & ~(one_HW | other_HW)).any()
    drawn_HW3 = outlined(IMAGE_HW3, outline_HW)
    assert (drawn_HW3[outline_HW] == OUTLINE_RGB).all() and (drawn_HW3[~outline_HW] == 200).all()
    assert outlined(IMAGE_HW3, None) is IMAGE_HW3 and (IMAGE_HW3 == 200).all()
    wide_HW = np.zeros((8, 640), bool)  # a wide picture, which is shown smaller, has two pixels
    wide_HW[:, 100:200] = True
    assert outline_of([wide_HW], (8, 640)).sum() == 2 * 2 * 8


def test_with_things_a_picture_says_what_the_white_lines_are() -> None:
    outline_HW = np.zeros((32, 48), bool)
    outline_HW[8:24, 8:40] = True
    chosen = selection([[1] * 6])
    plain, lined = (draw_selection(IMAGE_HW3, IMAGE_HW3, chosen, 2, 96, outline) for outline in (None, outline_HW))
    assert lined.shape[0] == plain.shape[0] + 20 and legend(chosen, things=True) == "white lines: around things"
    assert (lined == 255).all(-1).sum() > 100 and not (plain == 255).all(-1).any()

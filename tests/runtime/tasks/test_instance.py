"""The things of a frame at its own pixels, what a result says of them, and how alike two answers are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.data.polygons import decode_runs, from_runs
from edgeprune.runtime.tasks import Agreement, find_task
from tests import bundles
from tests.runtime.tasks.drawn import CAR, NAMES, PERSON, ROAD, answer, mask, result, task

# an input of 32x48, masks of 8x12 at stride 4, frames of the same aspect four times as large
SIZE, FRAME = (8, 12), (128, 192)
LEFT, TOP_ROWS, RIGHT = mask(slice(0, 8), slice(0, 6)), mask(slice(0, 2), slice(0, 12)), mask(slice(0, 8), slice(6, 12))


def test_things_have_a_class_a_score_and_a_box_and_a_mask_in_pixels_of_the_frame() -> None:
    found = result(task(32, 48), answer([(CAR, 0.9, LEFT), (PERSON, 0.7, TOP_ROWS)]), *FRAME)
    car, person = found.things
    assert (car.class_id, car.name, car.score) == (CAR, "car", pytest.approx(0.9))
    assert car.box == pytest.approx((0, 0, 96, 128)) and person.box == pytest.approx((0, 0, 192, 32))
    expected_HW = np.zeros(FRAME, bool)
    expected_HW[:, :96] = True  # a straight edge between two pixels of a mask stays where it is
    assert np.array_equal(car.mask_HW, expected_HW) and car.pixels == 96 * 128
    assert person.mask_HW[:32].all() and not person.mask_HW[32:].any()


def test_what_scores_less_is_none_and_can_be_asked_for() -> None:
    outputs = answer([(CAR, 0.9, LEFT), (PERSON, 0.5, RIGHT), (CAR, 0.49, TOP_ROWS), (ROAD, float("nan"), LEFT)])
    found = result(task(32, 48), outputs, *FRAME)
    assert [thing.name for thing in found.things] == ["car", "person"]
    assert [round(thing.score, 2) for thing in found.at_least(0.4)] == [0.9, 0.5, 0.49]
    assert found.at_least(0.95) == () and "2 things" in found.status


def test_the_best_is_the_first_whatever_order_a_graph_has() -> None:
    outputs = answer([(CAR, 0.6, LEFT), (PERSON, 0.9, RIGHT), (ROAD, 0.7, TOP_ROWS)])
    assert [thing.name for thing in result(task(32, 48), outputs, *FRAME).things] == ["person", "road", "car"]


@pytest.mark.parametrize(("height", "width"), [(64, 192), (16, 48), (32, 96), (20, 60)])
def test_a_flat_frame_lies_between_bars(height: int, width: int) -> None:
    """Rows 2 to 5 of the masks' 8 are its own."""
    things = [
        (CAR, 0.9, mask(slice(0, 8), slice(0, 3))),  # all of its height and of the bars', a quarter of its width
        (PERSON, 0.8, mask(slice(0, 4), slice(0, 12))),  # half in the bar
        (ROAD, 0.7, mask(slice(6, 8), slice(0, 12))),  # in a bar alone
    ]
    found = result(task(32, 48), answer(things), height, width)
    car, person = found.things
    assert car.box == pytest.approx((0, 0, width / 4, height))
    assert person.box == pytest.approx((0, 0, width, height / 2))
    assert np.array_equal(np.flatnonzero(car.mask_HW.all(0)), np.arange(round(width / 4)))
    assert car.mask_HW.shape == person.mask_HW.shape == (height, width)
    assert person.mask_HW[: height // 2].all() and person.pixels == height // 2 * width


def test_a_high_frame_lies_between_bars() -> None:
    """Columns 4 to 7 of the masks' 12 are its own."""
    found = result(task(32, 48), answer([(CAR, 0.9, LEFT)]), 128, 64)
    [car] = found.things
    assert car.box == pytest.approx((0, 0, 32, 128))
    assert car.mask_HW[:, :32].all() and car.pixels == 128 * 32


@pytest.mark.parametrize(("height", "width"), [(480, 640), (97, 131), (37, 200), (200, 37), (24, 31), (6, 9)])
def test_a_mask_is_enlarged_where_it_reaches_as_the_whole_would_be(height: int, width: int) -> None:
    """Of the whole, beside, by bilinear interpolation."""
    draw, reading = np.random.default_rng(height), task(96, 128)
    levels = []
    for _ in range(12):  # blobs of any size, anywhere, over the border too
        y, x, spread = draw.uniform(0, 24), draw.uniform(0, 32), draw.uniform(0.5, 8)
        distance = np.hypot(np.arange(24)[:, None] - y, np.arange(32) - x) / spread
        levels.append(np.clip(255 * (1.5 - distance), 0, 255).astype(np.uint8))
    found = result(reading, answer([(CAR, 0.9, each) for each in levels]), height, width).things
    top, left, inner_height, inner_width = reading.fit.placement(height, width)
    frame = (left / 4, top / 4, (left + inner_width) / 4, (top + inner_height) / 4)
    assert found
    for thing in found:
        whole = Image.fromarray(thing.level_hw).resize((width, height), Image.Resampling.BILINEAR, frame)
        different = thing.mask_HW != (np.asarray(whole) >= 128)
        assert different.mean() < 1e-3  # where a level is 127 or 128 by rounding
        assert thing.part.mask_cd.size <= thing.mask_HW.size
    if height == 480:  # a small one costs what it is large
        assert min(thing.part.mask_cd.size for thing in found) < 0.1 * height * width


def test_a_mask_is_made_once_and_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def watched(image: Image.Image, size: tuple[int, int], *more: object) -> Image.Image:
        made.append(size)
        return resize(image, size, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", watched)
    found = result(task(32, 48), answer([(CAR, 0.9, LEFT), (PERSON, 0.7, RIGHT), (CAR, 0.2, TOP_ROWS)]), *FRAME)
    assert found.counts() == {"car": 1, "person": 1} and found.status and not made
    assert found.things[0].mask_HW.any() and len(made) == 1
    assert found.labels.any() and found.areas() and found.to_json() and found.overlay().any()
    assert len(made) == 2


def test_an_empty_frame() -> None:
    for things in ([], [(CAR, 0.9, np.zeros(SIZE, bool))]):
        found = result(task(32, 48), answer(things), *FRAME)
        assert found.things == () and found.counts() == {} and found.status.endswith("  0 things")
        assert (found.labels == 255).all() and found.areas() == dict.fromkeys(NAMES, 0.0)
        assert found.to_json() == {"areas": dict.fromkeys(NAMES, 0.0), "counts": {}, "size": [128, 192], "things": []}
        assert found.overlay().shape == (*FRAME, 3)


def test_where_things_overlap_the_better_one_has_the_label_and_both_have_the_area() -> None:
    things = [(CAR, 0.9, LEFT), (PERSON, 0.8, TOP_ROWS), (CAR, 0.6, mask(slice(0, 8), slice(3, 9)))]
    found = result(task(32, 48), answer(things), *FRAME)
    assert (found.labels[:, :96] == CAR).all() and (found.labels[:32, 96:] == PERSON).all()
    assert (found.labels[32:, 96:144] == CAR).all() and (found.labels[32:, 144:] == 255).all()
    assert found.labels.dtype == np.uint8 and found.labels.shape == FRAME
    assert found.areas() == pytest.approx({"road": 0.0, "car": 9 / 12, "person": 2 / 8})  # two cars share a quarter
    assert found.counts() == {"car": 2, "person": 1} and list(found.counts()) == ["car", "person"]
    assert found.confidence is None and found.mean_confidence is None


def test_outside_a_region_there_is_nothing() -> None:
    """Two rows of three patches of 16 pixels; the one at the lower right lies outside."""
    reading = task(32, 48, region=["###", "##."])
    things = [(CAR, 0.9, np.ones(SIZE, bool)), (PERSON, 0.8, mask(slice(5, 8), slice(9, 12)))]
    found = result(reading, answer(things), *FRAME)
    [car] = found.things
    inside_HW = np.ones(FRAME, bool)
    inside_HW[64:, 128:] = False
    assert (car.mask_HW != inside_HW).mean() < 3e-3 and car.box == pytest.approx((0, 0, 192, 128))
    assert found.areas()["car"] == pytest.approx(1.0, abs=3e-3)
    narrow = result(task(32, 48, region=["#..", "#.."]), answer([(CAR, 0.9, TOP_ROWS)]), *FRAME)
    assert narrow.things[0].box == pytest.approx((0, 0, 64, 32))
    assert narrow.areas()["car"] == pytest.approx(0.25, abs=0.01) and narrow.counts() == {"car": 1}
    outputs = answer(things)
    assert (outputs["masks"][0] == 255).all()  # an engine's own buffers stay as they are


def test_a_line_of_json_holds_each_thing_and_its_run_lengths() -> None:
    found = result(task(32, 48), answer([(CAR, 0.912345, RIGHT), (PERSON, 0.7, TOP_ROWS)]), *FRAME)
    content = found.to_json()
    assert content["size"] == [128, 192] and content["counts"] == {"car": 1, "person": 1}
    assert content["areas"] == {"road": 0.0, "car": 0.5, "person": 0.25}
    car, person = content["things"]
    assert (car["class"], car["name"], car["score"], car["box"]) == (CAR, "car", 0.9123, [96.0, 0.0, 192.0, 128.0])
    for said, thing in zip((car, person), found.things, strict=True):
        assert said["mask"]["size"] == [128, 192]
        assert np.array_equal(from_runs(decode_runs(said["mask"]["counts"]), 128, 192), thing.mask_HW)
    assert [list(each) for each in found.to_json(masks=False)["things"]] == [["class", "name", "score", "box"]] * 2


def test_graphs_that_answer_something_else_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"the graphs give labels, boxes, no classes and no scores and no masks, which"
    ):
        task(32, 48, outputs=["labels", "boxes"])


agreement = find_task("instance").agreement
THINGS = [(CAR, 0.9, LEFT), (CAR, 0.8, RIGHT), (PERSON, 0.6, TOP_ROWS), (CAR, 0.3, TOP_ROWS)]


def test_an_answer_agrees_with_itself_in_whatever_order() -> None:
    expected = answer(THINGS)
    assert agreement(expected, expected) == Agreement(3, 3)
    for order in ([2, 0, 3, 1], [3, 2, 1, 0]):
        assert agreement(expected, {name: each[order] for name, each in expected.items()}) == Agreement(3, 3)


def test_things_of_one_score_are_told_apart_by_their_masks() -> None:
    """As TopK may give ties in any order."""
    tied = answer([(CAR, 0.75, LEFT), (CAR, 0.75, RIGHT), (CAR, 0.75, TOP_ROWS)])
    assert agreement(tied, {name: each[[1, 2, 0]] for name, each in tied.items()}) == Agreement(3, 3)


def test_each_thing_is_taken_once() -> None:
    twice, once = answer([(CAR, 0.9, LEFT), (CAR, 0.85, LEFT)]), answer([(CAR, 0.9, LEFT)])
    assert agreement(twice, once) == Agreement(1, 2)
    assert agreement(once, twice) == Agreement(1, 2)  # the other is one more than there should be
    assert agreement(twice, answer([(CAR, 0.87, LEFT), (CAR, 0.88, LEFT)])) == Agreement(2, 2)


@pytest.mark.parametrize(
    ("got", "equal", "of"),
    [
        ((PERSON, 0.9, LEFT), 0, 2),  # another class, and one that should not be there
        ((CAR, 0.79, LEFT), 0, 2),  # a score too far away
        ((CAR, 0.81, LEFT), 1, 1),
        ((CAR, 0.55, RIGHT), 0, 1),  # what is hardly a thing counts against nobody
        ((CAR, 0.9, mask(slice(0, 8), slice(0, 5))), 0, 2),  # IoU 5/6
    ],
)
def test_what_differs(got: tuple[int, float, np.ndarray], equal: int, of: int) -> None:
    assert agreement(answer([(CAR, 0.9, LEFT)]), answer([got])) == Agreement(equal, of)


def test_near_the_least_score_rounding_decides_and_nothing_is_held_against_it() -> None:
    expected = answer([(CAR, 0.505, LEFT), (CAR, 0.495, RIGHT)])
    got = answer([(CAR, 0.495, LEFT), (CAR, 0.505, RIGHT)])
    assert agreement(expected, got) == agreement(got, expected) == Agreement(1, 1)


def test_masks_agree_from_nine_tenths_on() -> None:
    whole = mask(slice(0, 10), slice(0, 10), (12, 12))
    for rows, equal in ((9, 1), (8, 0)):
        part = answer([(CAR, 0.9, mask(slice(0, rows), slice(0, 10), (12, 12)))])
        assert agreement(answer([(CAR, 0.9, whole)]), part).equal == equal


def test_of_a_region_its_pixels_count() -> None:
    expected, got = answer([(CAR, 0.9, LEFT)]), answer([(CAR, 0.9, mask(slice(0, 4), slice(0, 6)))])
    assert agreement(expected, got) == Agreement(0, 2)
    upper_hw = mask(slice(0, 4), slice(0, 12))
    assert agreement(expected, got, upper_hw) == Agreement(1, 1)
    assert agreement(expected, got, RIGHT) == Agreement(0, 0)  # neither has a thing there


def test_two_answers_without_things_agree() -> None:
    nothing, one = answer([]), answer([(CAR, 0.9, LEFT)])
    assert agreement(nothing, nothing) == Agreement(0, 0) and Agreement(0, 0).share == 1
    assert agreement(nothing, one) == agreement(one, nothing) == Agreement(0, 1)
    assert (agreement(nothing, nothing) + agreement(one, one)).share == 1


def test_scores_that_are_no_numbers_agree_with_nothing() -> None:
    broken = answer([(CAR, float("nan"), LEFT)])
    assert agreement(broken, broken) == Agreement(0, 1) == agreement(answer([]), broken)


def test_the_graphs_of_a_bundle_are_read_as_they_are_known(tmp_path: Path) -> None:
    from edgeprune.runtime.engines import ENGINES
    from edgeprune.runtime.references import agreement_of

    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    bundle = bundles.write_bundle(tmp_path / "bundle", precisions=("fp32",), task="instance")
    session = ENGINES["onnxruntime"].open(bundle, "fp32", threads=1)
    for bright in (0, 3, 24):
        frame_HW3 = bundles.frame_with(bright, seed=bright)
        assert session.start(frame_HW3) == bright
        for number, name in enumerate(bundles.BUCKETS, 1):
            got, expected = session.finish(name), bundles.expected_things(frame_HW3, number)
            assert list(got) == ["classes", "scores", "boxes", "masks"] and got["masks"].dtype == np.uint8
            np.testing.assert_array_equal(got["masks"], expected["masks"])
            np.testing.assert_allclose(got["scores"], expected["scores"], atol=1e-6)
            np.testing.assert_array_equal(got["classes"], expected["classes"])
            np.testing.assert_allclose(
                got["boxes"][got["scores"] > 0], expected["boxes"][expected["scores"] > 0], atol=1e-6
            )
    assert agreement_of(session, bundle, "fp32") == dict.fromkeys(bundles.BUCKETS, 1)
    session.close()

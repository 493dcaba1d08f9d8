"""The instance task: which things of a batch are learnt, what its losses are means over, and what it learns from a teacher."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from edgeprune.base.errors import InputError
from edgeprune.data.datasets import load_data_set
from edgeprune.data.instances import Instances
from edgeprune.model.checkpoint import save
from edgeprune.model.heads.answers import Answers
from edgeprune.model.heads.instance import QueryHead
from edgeprune.model.heads.places import cut, uncut
from edgeprune.model.network import Prediction
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec
from edgeprune.pruning.methods import POLICIES
from edgeprune.quantize.loading import load_start, make_model
from edgeprune.train.backend import OneProcess
from edgeprune.train.checks import check_recipe
from edgeprune.train.heatmap import heatmap_distance
from edgeprune.train.matching import Things, distances, match
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe_file import load_recipe
from edgeprune.train.tasks import make_task, reads_things
from edgeprune.train.tasks.instance import (
    HEATMAP_WEIGHT,
    NONE_WEIGHT,
    Instance,
    Targets,
    boxes_of,
    distance_to_answers,
    things_in,
)
from edgeprune.train.tasks.instance_checks import begins_anew
from edgeprune.train.tasks.instance_scores import score_things
from edgeprune.train.tasks.task import Taught
from edgeprune.train.trainer import Trainer
from tests import models
from tests.train import rectangles
from tests.train.rectangles import Rectangles

QUERIES, CLASSES = 8, 3


def task(folder: Path, name: str = "dense", **changes: Any) -> Instance:
    made = models.changed(rectangles.recipe(folder), name, **changes)
    data_set = load_data_set(rectangles.write_set(folder))
    found = make_task(made, made.phases[name], data_set, [], torch.device("cpu"))
    assert isinstance(found, Instance)
    return found


def read(counts: list[int]) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """A batch as the loader gives it, with so many things in each frame."""
    images_B3HW = torch.zeros(len(counts), 3, 64, 96, dtype=torch.uint8)
    planes, classes = [], []
    for count in counts:
        masks = [np.zeros((64, 96), bool) for _ in range(count)]
        for index, mask_HW in enumerate(masks):
            mask_HW[2 * index : 2 * index + 20, 4 * index : 4 * index + 30] = True
        things = Instances.of([index % CLASSES for index in range(count)], masks, (64, 96))
        planes_PHW, classes_I = things.padded(8, 255)
        planes.append(torch.from_numpy(planes_PHW))
        classes.append(torch.from_numpy(classes_I).long())
    labels_BHW = torch.zeros(len(counts), 64, 96, dtype=torch.uint8)
    return images_B3HW, (labels_BHW, torch.stack(planes), torch.stack(classes))


def said(frames: int, seed: int, answers: int = 2) -> Prediction:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> list[torch.Tensor]:
        return [torch.randn(frames, QUERIES, *shape, generator=generator) for _ in range(answers)]

    heatmap_BKHW, places_BQ = (
        torch.randn(frames, CLASSES, 8, 12, generator=generator),
        torch.arange(QUERIES).repeat(frames, 1),
    )
    raw = Answers(drawn(CLASSES + 1), [each.sigmoid() for each in drawn(4)], drawn(16, 24), heatmap_BKHW, places_BQ)
    return Prediction(raw, torch.randn(frames, 24, 6, generator=generator), masked=None)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ targets


def test_things_come_out_of_their_planes_with_their_frames_and_boxes() -> None:
    """Ten of a frame are in two planes; a third frame has none; what has fewer pixels than a thing needs is none."""
    _, (_, planes_BPHW, classes_BI) = read([10, 3, 0])
    planes_BPHW[1, 0] &= 0b11111011
    planes_BPHW[1, 0, 0, :3] |= 0b00000100
    found = things_in(planes_BPHW, classes_BI, 255)
    assert found.counts == [10, 2, 0] and found.frame_I.tolist() == [0] * 10 + [1] * 2
    assert found.classes_I.tolist() == [index % CLASSES for index in range(10)] + [0, 1]
    expected_HW = torch.zeros(64, 96, dtype=torch.uint8)
    expected_HW[18:38, 36:66] = 1
    assert torch.equal(found.masks_IHW[9], expected_HW)
    torch.testing.assert_close(found.boxes_I4[9], torch.tensor([51 / 96, 28 / 64, 30 / 96, 20 / 64]))


def test_boxes_reach_around_all_pixels() -> None:
    masks_IHW = torch.zeros(2, 64, 96, dtype=torch.uint8)
    masks_IHW[0, 3, 5] = masks_IHW[0, 10, 95] = 1
    masks_IHW[1] = 1
    expected = [[(5 + 96) / 2 / 96, (3 + 11) / 2 / 64, 91 / 96, 8 / 64], [0.5, 0.5, 1.0, 1.0]]
    torch.testing.assert_close(boxes_of(masks_IHW), torch.tensor(expected))
    assert boxes_of(masks_IHW[:0]).shape == (0, 4)


def test_things_move_with_their_pixels(tmp_path: Path) -> None:
    """Each thing has a brightness of its own in the image: where it is after a window and a flip, that is seen."""
    still = {"colour": 0.0, "blur": 0.0, "noise": 0.0, "grey": 0.0, "scale": [0.8, 1.6], "flip": 0.5}
    images_B3HW, (labels_BHW, planes_BPHW, classes_BI) = read([2] * 6)
    planes_BPHW[:, 0] = 0
    planes_BPHW[:, 0, 8:30, 10:40], planes_BPHW[:, 0, 34:60, 50:90] = 1, 2
    images_B3HW[:, :, 8:30, 10:40], images_B3HW[:, :, 34:60, 50:90] = 100, 200
    torch.manual_seed(0)
    moved_B3HW, targets = task(tmp_path, augment=still).augment(images_B3HW, (labels_BHW, planes_BPHW, classes_BI))
    things = targets.things
    assert len(things.masks_IHW) > 6 and targets.labels_BHW.dtype == torch.int64
    for frame, class_id, mask_HW in zip(things.frame_I, things.classes_I, things.masks_IHW, strict=True):
        inside_HW = -torch.nn.functional.max_pool2d(-mask_HW[None].float(), 5, 1, 2)[0] > 0.5  # away from its edge
        levels = moved_B3HW[frame, 0][inside_HW]
        assert len(levels) == 0 or (levels - (100, 200)[class_id]).abs().max() < 2


# ------------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("counts", [[3, 1, 0, 9], [0, 0, 2, 2]])
def test_parts_weighed_by_what_they_count_make_the_loss_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: list[int]
) -> None:
    """Two parts of a batch, of which one has few things or none: all terms are means over the whole batch's. Points are
    everywhere the same."""
    monkeypatch.setattr(torch, "rand", lambda *shape, device=None: grid_of_points(shape))
    monkeypatch.setattr(torch, "randint", lambda high, shape, device=None: torch.arange(shape[0]) % high)
    made, prediction = task(tmp_path), said(4, 0)
    raw: Answers = prediction.raw

    def part(first: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        _, (labels_BHW, planes_BPHW, classes_BI) = read(counts[first:end])
        targets = Targets(labels_BHW, things_in(planes_BPHW, classes_BI, 255))
        logits, boxes, masks = ([each[first:end] for each in of] for of in (raw.logits, raw.boxes, raw.masks))
        own = Answers(logits, boxes, masks, raw.heatmap_BKPhPw[first:end], raw.places_BQ[first:end])
        answer = Prediction(own, prediction.x_BND, prediction.masked)
        return made.loss(answer, targets), made.counted(targets)

    whole, counted = part(0, 4)
    learnt = sum(min(count, QUERIES) for count in counts)
    expected = [learnt + NONE_WEIGHT * (4 * QUERIES - learnt), learnt, sum(counts) + 4, sum(counts)]
    assert counted.tolist() == pytest.approx(expected)
    parts = [part(0, 2), part(2, 4)]
    shares = torch.stack([each for _, each in parts])
    shares = shares / shares.mean(0)
    together = sum(share * loss for share, (loss, _) in zip(shares, parts, strict=True)) / 2
    torch.testing.assert_close(together, whole)


def grid_of_points(shape: tuple[int, ...]) -> torch.Tensor:
    """In place of random points: the same for each mask."""
    generator = torch.Generator().manual_seed(0)
    return torch.empty(shape[1:]).uniform_(generator=generator).expand(shape).clone()


def test_a_batch_without_a_thing_learns_that_there_is_none(tmp_path: Path) -> None:
    made = task(tmp_path)
    _, (labels_BHW, planes_BPHW, classes_BI) = read([0, 0])
    targets = Targets(labels_BHW, things_in(planes_BPHW, classes_BI, 255))
    prediction = said(2, 0, answers=1)
    prediction.raw.logits[0].requires_grad_()
    classes, rest, places, guided = made.loss(prediction, targets)
    expected = -prediction.raw.logits[0].log_softmax(-1)[..., -1].mean()
    torch.testing.assert_close(classes, 2 * expected)
    assert rest == 0 == guided
    of_places = HEATMAP_WEIGHT * heatmap_distance(prediction.raw.heatmap_BKPhPw, torch.zeros(2, CLASSES, 8, 12)) / 2
    torch.testing.assert_close(places, of_places)


def test_a_loss_that_is_no_number_says_so(tmp_path: Path) -> None:
    made = task(tmp_path)
    _, (labels_BHW, planes_BPHW, classes_BI) = read([2])
    targets = Targets(labels_BHW, things_in(planes_BPHW, classes_BI, 255))
    prediction = said(1, 0)
    prediction.raw.masks[0][:] = float("nan")
    assert not made.loss(prediction, targets).sum().isfinite()


# ------------------------------------------------------------------------------------------------ teachers


def test_a_teacher_that_says_the_same_is_no_distance_away(tmp_path: Path) -> None:
    ours, theirs = said(2, 0), said(2, 1)
    assert distance_to_answers(ours.raw, ours.raw).item() == pytest.approx(0, abs=1e-6)
    assert distance_to_answers(ours.raw, theirs.raw) > 0.1
    for part in ("logits", "boxes", "masks", "heatmap_BKPhPw"):
        one = said(2, 0).raw
        setattr(one, part, getattr(theirs.raw, part))
        assert distance_to_answers(one, ours.raw) > 1e-2
    ours_uncut, moved = said(2, 0).raw, said(2, 0).raw
    moved.boxes[-1] = theirs.raw.boxes[-1]  # and its masks cut there: the boxes alone are another
    moved.masks[-1] = cut(uncut(ours_uncut.masks[-1], ours_uncut.boxes[-1]), moved.boxes[-1]).detach()
    moved.masks[-1].requires_grad_()
    distance_to_answers(moved, ours_uncut).backward()
    assert moved.masks[-1].grad is not None and moved.masks[-1].grad.abs().max() < 1e-6
    sure = said(2, 0).raw  # of no thing: of masks and boxes nothing is learnt then
    sure.logits[-1][..., -1] = 80.0
    other = replace(sure, boxes=theirs.raw.boxes, masks=theirs.raw.masks)
    assert distance_to_answers(other, sure).item() == pytest.approx(0, abs=1e-5)


def test_queries_are_compared_by_their_places() -> None:
    """In whatever order the two have them; those that begin where the teacher has none learn nothing from it."""
    ours = said(2, 0).raw
    order = torch.randperm(QUERIES, generator=torch.Generator().manual_seed(3))
    logits, boxes, masks = ([each[:, order] for each in of] for of in (ours.logits, ours.boxes, ours.masks))
    shuffled = Answers(logits, boxes, masks, ours.heatmap_BKPhPw, ours.places_BQ[:, order])
    assert distance_to_answers(ours, shuffled).item() == pytest.approx(0, abs=1e-6)
    apart = replace(said(2, 1).raw, heatmap_BKPhPw=ours.heatmap_BKPhPw, places_BQ=ours.places_BQ + QUERIES)
    assert distance_to_answers(ours, apart).item() == pytest.approx(0, abs=1e-6)


def test_the_distance_is_that_of_answers_and_of_tokens(tmp_path: Path) -> None:
    ours, taught = said(2, 0), said(2, 1)
    made = task(tmp_path, "sparse", distill=2.0, distill_tokens=3.0)
    found = made.distance(ours, Taught([taught.raw], taught.x_BND))
    alone = task(tmp_path, "sparse", distill=0.0, distill_tokens=3.0).distance(ours, Taught([], taught.x_BND))
    torch.testing.assert_close(found, 2 * distance_to_answers(ours.raw, taught.raw) + alone)
    assert alone > 0


# ------------------------------------------------------------------------------------------------ masked attention


def test_masked_attention_is_annealed_where_queries_begin_anew(tmp_path: Path) -> None:
    made = rectangles.recipe(tmp_path)
    cards = {"things": rectangles.card(made), "semantic": rectangles.card(made, task="semantic")}
    for name, card in cards.items():
        save(tmp_path / f"{name}.safetensors", card, {"a": torch.zeros(1)})
    model = make_model(cards["things"])

    def masked(name: str, progress: float, **changes: Any) -> float:
        task(tmp_path, name, **changes).before_step(model, progress)
        assert isinstance(model.head, QueryHead)
        return model.head.masked

    assert [masked("dense", progress) for progress in (0.0, 0.375, 0.75, 0.9)] == [1.0, 0.5, 0.0, 0.0]
    assert masked("dense", 0.0, start=str(tmp_path / "semantic.safetensors")) == 1.0
    assert masked("dense", 0.0, start=str(tmp_path / "things.safetensors")) == 0.0
    assert masked("sparse", 0.0) == 0.0 == masked("sparse", 0.0, kind="dense", policy=None)


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("phase", "changes", "words"),
    [
        ("dense", {"jaccard": 0.5}, "phase dense: jaccard is for the classes of pixels, and a model of task instance learns "
                                    "things; set jaccard: 0, or take it out"),
        ("dense", {"dice": 0.5}, "phase dense: dice is for"),
        ("qat", {"class_balance": 0.25}, "phase qat: class_balance is for"),
        ("qat", {"label_smoothing": 0.1}, "phase qat: label_smoothing is for"),
        ("dense", {"ohem": {}}, "phase dense: ohem is for .* set ohem: null, or take it out"),
        ("dense", {"auxiliary": {"blocks": [1]}}, "phase dense: auxiliary is for .* set auxiliary: null"),
        ("qat", {"distill": 1.0, "teacher": ["dense", "sparse"]}, "phase qat: 2 teachers look for things at places of"),
        ("sparse", {"teacher": "LABELS"}, "teacher .*LABELS.safetensors has task semantic, the model instance, so it can teach "
                                          "by its tokens alone; set distill: 0 and distill_tokens: 1.0"),
    ],
)  # fmt: skip
def test_what_means_nothing_to_things_is_refused_in_one_line(
    tmp_path: Path, phase: str, changes: dict[str, Any], words: str
) -> None:
    made = rectangles.recipe(tmp_path)
    files: dict[str, dict[str, Any]] = {"LABELS": {"task": "semantic"}}
    for name, of in files.items():
        save(tmp_path / f"{name}.safetensors", rectangles.card(made, **of), {"a": torch.zeros(1)})
    named = {key: value for key, value in changes.items() if value in list(files)}
    at = {key: str(tmp_path / f"{value}.safetensors") for key, value in named.items()}
    with pytest.raises(InputError, match=words):
        check_recipe(models.changed(made, phase, **changes | at), [phase], 1)


def test_any_teacher_of_things_is_taken(tmp_path: Path) -> None:
    """Whether the phase begins with it or not, and with fewer queries."""
    made = rectangles.recipe(tmp_path)
    check_recipe(made, made.phases, 1)
    fewer = tmp_path / "fewer.safetensors"
    save(fewer, rectangles.card(made, queries=4), {"a": torch.zeros(1)})
    check_recipe(models.changed(made, "sparse", teacher=str(fewer)), ["sparse"], 1)
    check_recipe(models.changed(made, "qat", distill=1.0, teacher="dense"), ["qat"], 1)
    check_recipe(models.changed(made, "sparse", distill=0.0, distill_tokens=1.0), ["sparse"], 1)


def test_queries_of_labels_are_refused(tmp_path: Path) -> None:
    made = models.recipe(tmp_path, model={"height": 64, "width": 96, "queries": 8})
    with pytest.raises(InputError, match="model.queries is of task instance, and the model's is semantic; take it out"):
        check_recipe(made, made.phases, 1)


def test_a_validation_without_its_metric_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.train.tasks.instance_checks.METRIC", "no_such_package")
    made = rectangles.recipe(tmp_path, validation={"data": rectangles.write_set(tmp_path), "frames": 2})
    with pytest.raises(InputError, match=r"pip install 'edgeprune\[coco\]', or set validation: null"):
        check_recipe(made, made.phases, 1)
    assert made.validation is not None
    made.validation.times = 0
    check_recipe(made, made.phases, 1)


def test_the_shipped_recipe_asks_for_nothing_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.train.tasks.instance_checks.METRIC", "numpy")
    made = load_recipe("car-damage-instances")
    check_recipe(made, made.phases, 1)
    assert [reads_things(made, phase) for phase in made.phases.values()] == [True] * 3


# ------------------------------------------------------------------------------------------------ beside policies


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_learns_things(policy: str) -> None:
    """Forward and backward of its training form, with its own loss, from labels and things; and a label map."""
    card = models.card(policy)
    spec = ModelSpec.model_validate(card.model.model_dump() | {"task": "instance", "queries": 4})
    torch.manual_seed(0)
    model = make_model(card.model_copy(update={"model": spec})).train()
    labels_BHW = torch.randint(0, 11, (2, 4, 6)).repeat_interleave(16, 1).repeat_interleave(16, 2)
    prediction = model(models.images(2), labels_BHW=labels_BHW, progress=0.5)
    masks_IHW = torch.stack([labels_HW == labels_HW[0, 0] for labels_HW in labels_BHW]).to(torch.uint8)
    things = Things([1, 1], labels_BHW[:, 0, 0], masks_IHW, boxes_of(masks_IHW))
    raw = prediction.raw
    (*_, pairs) = match(raw, things)
    (distances(raw.boxes[-1], raw.masks[-1], things, pairs) + prediction.masked.loss).backward()
    of_block = model.get_parameter("blocks.0.attn.qkv.weight").grad
    assert model.head.reduce.weight.grad is not None and of_block is not None and of_block.abs().sum() > 0
    assert model.label_map(raw).shape == (16, 24)


def test_a_semantic_model_starts_one_of_things(tmp_path: Path) -> None:
    """Its head begins anew; one of another number of queries has all of it, for a query is a place."""
    made = rectangles.recipe(tmp_path)
    semantic, fewer, ours = (rectangles.card(made, **of) for of in ({"task": "semantic"}, {"queries": 4}, {}))
    for name, card in (("semantic", semantic), ("fewer", fewer)):
        save(tmp_path / f"{name}.safetensors", card, models.model(card, seed=1).state_dict())
    model = models.model(ours)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert load_start(model, tmp_path / "semantic.safetensors", rectangles.NAMES) == [
        "is of task semantic, so the head begins anew"
    ]
    same = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
    assert "blocks.0.attn.qkv.weight" not in same
    assert {key for key in before if key.startswith("head.")} <= same
    assert load_start(model, tmp_path / "fewer.safetensors", rectangles.NAMES) == []
    assert not torch.equal(model.state_dict()["head.layers.0.fc1.weight"], before["head.layers.0.fc1.weight"])


# ------------------------------------------------------------------------------------------------ it learns


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Segmenter]:
    """A model that has learnt two frames in 60 steps."""
    with two_frames() as patch:
        yield overfitted(tmp_path_factory.mktemp("learnt"), patch, steps=60)


def test_it_learns_two_frames_of_overlapping_rectangles(learnt: Segmenter) -> None:
    """So that the best answer of each class is the thing of that class, with nearly all of its mask: IoU over 0.8."""
    for index in range(2):
        class_T, score_T, masks_THW = answer_to(learnt, index)
        for class_id in (1, 2):
            best = class_T.tolist().index(class_id)
            mask_HW, found_HW = rectangles.masks_of(index)[class_id - 1], masks_THW[best]
            assert score_T[best] > 0.5 and (found_HW & mask_HW).sum() / (found_HW | mask_HW).sum() > 0.8


def test_what_it_has_learnt_scores_as_much_by_cocos_metric(learnt: Segmenter, tmp_path: Path) -> None:
    """An IoU of 0.88 counts up to the threshold of 0.85, the eighth of ten."""
    pytest.importorskip("faster_coco_eval", reason="COCO's metric, of the extra `coco`")
    pytest.importorskip("edgeprune.evaluate.tasks.instance")
    data_set = load_data_set(rectangles.write_set(tmp_path))
    assert score_things(learnt, data_set, Rectangles([0, 1], True), None) > 0.6


@pytest.mark.slow
def test_in_the_end_no_query_that_is_left_says_a_thing_again(tmp_path: Path) -> None:
    with two_frames() as patch:
        model = overfitted(tmp_path, patch, steps=240)
    for index in range(2):
        _, score_T, _ = answer_to(model, index)
        assert score_T[1] > 0.8 and score_T[2] < 0.5


def answer_to(model: Segmenter, index: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Classes, scores and masks at the frame's own pixels."""
    image_HW3 = Rectangles([index], False)[0].image_HW3
    with torch.no_grad():
        raw = model(torch.from_numpy(image_HW3).permute(2, 0, 1)[None].float()).raw
        class_T, score_T, _, levels_Thw = model.head.decide(raw)
    return class_T, score_T, levels_Thw.numpy().repeat(4, 1).repeat(4, 2) >= 128


@contextmanager
def two_frames() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        rectangles.give(patch)
        patch.setattr(rectangles, "FRAMES", 2)
        yield patch


def overfitted(folder: Path, patch: pytest.MonkeyPatch, steps: int) -> Segmenter:
    """The model of a dense phase at the end, on frames as they are; masks are learnt at few points, for speed."""
    patch.setattr("edgeprune.train.matching.MATCHED_POINTS", 512)
    patch.setattr("edgeprune.train.matching.LEARNT_POINTS", 256)
    still = {"scale": [1.0, 1.0], "flip": 0.0, "colour": 0.0, "blur": 0.0, "noise": 0.0, "grey": 0.0}
    made = rectangles.recipe(folder)
    made = models.changed(made, "dense", frames=2 * steps, batch=2, lr=2e-3, ema=0.0, augment=still)
    trainer = Trainer(PhaseRun(made, "dense", folder), OneProcess("cpu", False), [1 / 3] * 3, None)
    trainer.train()
    assert isinstance(trainer.model, Segmenter)
    return trainer.model.eval()


def test_queries_that_have_learnt_are_not_masked_again(tmp_path: Path) -> None:
    """Those of a phase before, of weights that find things, and of a head that was given; none else."""
    made = rectangles.recipe(tmp_path)
    files = {}
    for name, card in (("areas", rectangles.card(made, task="semantic")), ("things", rectangles.card(made))):
        save(tmp_path / f"{name}.safetensors", card, models.model(card).state_dict())
        files[name] = str(tmp_path / f"{name}.safetensors")
    (tmp_path / "vit.safetensors").write_bytes(safetensors_bytes({"pos_embed": torch.zeros(1, 4, 192)}))
    files["vit"] = str(tmp_path / "vit.safetensors")

    def anew(start: str | None = None, **keys: str) -> bool:
        recipe = made.model_copy(update=keys)
        recipe.phases["dense"].start = start
        return begins_anew(recipe, recipe.phases["dense"])

    assert anew() and anew(weights=files["vit"]) and anew(weights=files["areas"]) and anew(start=files["areas"])
    assert not anew(weights=files["things"]) and not anew(start=files["things"])
    assert not anew(weights=files["vit"], head=files["things"]) and not anew(head=files["things"])
    assert anew(start=files["areas"], head=files["things"])  # no first phase: its head is what it starts from
    assert not begins_anew(made, made.phases["sparse"])

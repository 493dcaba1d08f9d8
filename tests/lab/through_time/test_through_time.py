"""The study's rows, on a network of two blocks and frames of noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.samples import UInt8
from edgeprune.lab.through_time import __main__ as study
from edgeprune.lab.through_time.__main__ import Frames, compare, frames_of, main, see
from edgeprune.lab.through_time.carriers import CARRIERS
from edgeprune.lab.through_time.scores import DENSE, REPEATED, picture_of, score
from edgeprune.model.checkpoint import save, shape_of
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.runtime.cameras import Frame
from tests import models


@pytest.fixture
def model() -> Segmenter:
    torch.manual_seed(0)
    spec = ModelSpec(size="tiny", depth=2, height=64, width=96, classes=4)
    made = Segmenter(spec, make_policy(PolicySpec(name="dense"), shape_of(spec)))
    for each in made.parameters():
        if each.ndim > 1:
            torch.nn.init.normal_(each, std=0.3)  # labels depend on the frame
    return made.requires_grad_(False).eval()


def frame_of(image_HW3: UInt8, label_HW: UInt8 | None = None) -> Frame:
    return Frame(index=0, name=None, image_HW3=image_HW3, capture_ns=0, label_HW=label_HW)


@torch.inference_mode()
def test_all_tokens_give_all_labels_and_few_do_not(model: Segmenter) -> None:
    generator = np.random.default_rng(0)
    given = [frame_of(image_HW3) for image_HW3 in generator.integers(0, 256, (4, 64, 96, 3), np.uint8)]
    rows = {(row.share, row.way): row for row in compare(model, see(model, given), [1.0, 0.25], lambda _: None)}
    assert {way for _, way in rows} == {*CARRIERS, REPEATED}
    for way in (*CARRIERS, REPEATED):
        assert rows[1.0, way].equal == rows[1.0, way].least == rows[1.0, way].changed == 1.0
        assert rows[0.25, way].equal < 1.0


def test_shares_are_of_pixels_and_of_those_whose_dense_label_changed() -> None:
    dense = [np.zeros((2, 2), np.int64), np.array([[1, 1], [0, 0]]), np.array([[1, 1], [0, 0]])]
    answers = [np.full((2, 2), 9), np.array([[1, 0], [0, 0]]), np.array([[1, 0], [0, 1]])]
    row = score(0.5, "a way", Frames(dense=dense), answers)
    assert (row.equal, row.least, row.changed) == (0.625, 0.5, 0.5)
    assert score(0.5, "a way", Frames(dense=dense[1:]), answers[1:]).changed is None


def test_bars_beside_a_picture_are_not_compared() -> None:
    """Its labels are the right one of two columns."""
    dense = [np.zeros((2, 2), np.int64), np.array([[1, 1], [1, 0]]), np.array([[1, 1], [1, 0]])]
    answers = [np.full((2, 2), 9), np.array([[1, 0], [1, 0]]), np.array([[1, 1], [1, 0]])]
    column = (slice(0, 2), slice(1, 2))
    row = score(0.5, "a way", Frames(dense=dense, pictures=[column] * 3), answers)
    assert (row.equal, row.least, row.changed) == (0.75, 0.5, 0.0)
    assert score(0.5, "a way", Frames(dense=dense), answers).equal == 0.875


@torch.inference_mode()
def test_a_frame_lies_between_its_bars(model: Segmenter) -> None:
    """64x96 pixels have 32x48 labels; a square frame lies in the middle of them."""
    generator = np.random.default_rng(0)
    square, whole = (generator.integers(0, 256, (side, *rest), np.uint8) for side, *rest in ((40, 40, 3), (64, 96, 3)))
    found = see(model, [frame_of(square), frame_of(whole)])
    assert [each.shape for each in found.dense] == [(32, 48)] * 2
    assert found.pictures == [(slice(0, 32), slice(8, 40)), (slice(0, 32), slice(0, 48))]
    assert picture_of(Preprocess(64, 96), np.zeros((10, 30, 3), np.uint8), 4) == (slice(4, 12), slice(0, 24))


@torch.inference_mode()
def test_labels_of_the_clip_are_scored_and_the_dense_network_has_a_row(model: Segmenter) -> None:
    """Of ten frames that are labelled as the dense network labels them, it is right, and a way that computes all too."""
    generator = np.random.default_rng(0)
    images = list(generator.integers(0, 256, (10, 64, 96, 3), np.uint8))
    dense = see(model, [frame_of(image_HW3) for image_HW3 in images]).dense
    given = [
        frame_of(image, label.repeat(2, 0).repeat(2, 1).astype(np.uint8))
        for image, label in zip(images, dense, strict=True)
    ]
    rows = {(row.share, row.way): row for row in compare(model, see(model, given), [1.0, 0.25], lambda _: None)}
    whole = rows[1.0, DENSE]
    assert whole.miou == rows[1.0, "keys and values"].miou == 1.0
    few = rows[0.25, "keys and values"].miou
    assert few is not None and few < 1.0
    assert whole.steady == whole.right


def test_a_checkpoint_that_is_not_there_is_one_line() -> None:
    result = CliRunner().invoke(main, ["nowhere.safetensors", "clip.mp4"])
    assert result.exit_code != 0 and "nowhere.safetensors" in str(result.exception)


def test_labels_of_other_classes_are_left_out(
    model: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the network's, under other names: ids of one are none of the other."""

    @contextmanager
    def frames_of_street(uri: str) -> Iterator[Iterator[Frame]]:
        yield (frame_of(*models.scene(seed)) for seed in (1, 2, 3))

    monkeypatch.setattr(study, "open_source", frames_of_street)
    monkeypatch.setattr(study, "closing", lambda source: source)
    path = tmp_path / "a.safetensors"
    described = models.card("dense", depth=1)
    weights = models.model(described).state_dict()
    typed = [str(path), "synthetic://street", "--frames", "3", "--share", "0.5"]
    for names, rows in ((described.names, 1), ([*described.names[1:], described.names[0]], 0)):
        save(path, described.model_copy(update={"names": list(names)}), weights)
        said = CliRunner().invoke(main, typed, catch_exceptions=False)
        assert said.stdout.count(DENSE) == rows and said.stdout.count(REPEATED) == 1


@pytest.mark.parametrize(("share", "near"), [(0.7, "0.5, 1"), (0.4, "0.3333, 0.5"), (0.12, "0.1111, 0.125")])
def test_a_share_that_the_controls_cannot_have_is_refused(share: float, near: str) -> None:
    with pytest.raises(InputError, match=f"--share {share:g}: .*name one of 1/n, such as {near}"):
        CliRunner().invoke(
            main, ["zoo:street-tiny/reference", "clip.mp4", "--share", str(share)], catch_exceptions=False
        )
    assert (frames_of(1.0), frames_of(0.5), frames_of(0.33), frames_of(0.125)) == (1, 2, 3, 8)


def test_a_cut_is_no_change_and_clips_without_labels_have_no_vote() -> None:
    """Two clips of two frames, of which the second has no labels and shows something else."""
    dense = [np.array([[number]]) for number in (0, 0, 1, 1)]
    true = [np.array([[0]], np.uint8), np.array([[0]], np.uint8), None, None]
    answers = [np.array([[number]]) for number in (0, 0, 0, 1)]
    row = score(1.0, "a way", Frames(dense=dense, true=true, begins={0, 2}), answers)
    assert row.changed is None and row.equal == pytest.approx(2 / 3) and row.miou == 1.0
    assert score(1.0, "a way", Frames(dense=dense, true=true, begins={0}), answers).changed == 0.0

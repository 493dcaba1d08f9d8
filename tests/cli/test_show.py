"""`show`: pictures and clips of what a policy keeps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeprune.cli import tokens
from edgeprune.data.region import Region
from edgeprune.model.checkpoint import save
from edgeprune.pruning.methods import POLICIES
from edgeprune.pruning.selection import select_top
from edgeprune.pruning.token_pictures import OUTLINE_RGB, draw_heat, outlined
from edgeprune.quantize.loading import load
from edgeprune.runtime.cameras import open_source
from tests import models
from tests.cli.conftest import Type
from tests.cli.test_bad_input import assert_one_line
from tests.export import instances
from tests.runtime.cameras.test_played import write as write_video
from tests.selected import select_tokens

STREET = "synthetic://street?seed=3&height=64&width=96"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("show") / "svit.safetensors"
    save(path, models.card(), models.model().state_dict())
    return path


@pytest.mark.parametrize("policy", list(POLICIES))
def test_every_policy_can_be_looked_at(policy: str) -> None:
    model = models.model(models.card(policy))
    selection, label_hw = select_tokens(model, models.frames(1)[0])
    assert label_hw.shape == (32, 48)
    assert len(selection.keep_GN) == len(selection.before) == len(model.policy.gated)
    assert selection.blocks_N.min() >= 0 and selection.blocks_N.max() <= model.spec.depth
    assert selection.processed(model.spec.depth).sum(0).tolist() == selection.blocks_N.tolist()
    if selection.groups_GN is not None:  # one token stands for each group, where none leaves early
        for gate, (keep_N, groups_N) in enumerate(zip(selection.keep_GN, selection.groups_GN, strict=True)):
            standing = sorted(groups_N[keep_N].tolist())
            assert len(set(standing)) == len(standing)
            assert standing == sorted(set(groups_N.tolist())) or not model.policy.schedule.merges_at(gate)


def test_blocks_are_counted_by_the_decisions_before_them() -> None:
    model = models.model()  # gates before blocks 2, 3 and 4
    frame_HW3 = models.frames(1)[0]
    selection, _ = select_tokens(model, frame_HW3)
    keeps = model(models.images(1), select_top(model.policy.schedule.target_counts)).masked.keep_GBN
    assert selection.blocks_N.tolist() == (1 + sum(keep_BN[0] for keep_BN in keeps)).int().tolist()
    assert selection.before == [2, 3, 4]
    assert selection.token_share(4) == pytest.approx(selection.blocks_N.mean() / 4)


def test_outside_a_region_no_block_sees_a_token() -> None:
    model = models.model(models.card("cts-svit"))
    model.restrict(Region((*["......"] * 2, *["######"] * 2)))
    selection, label_hw = select_tokens(model, models.frames(1)[0])
    assert (label_hw[:16] == 255).all() and (label_hw[16:] < 11).all()
    for keep_N, groups_N in zip(
        selection.keep_GN, selection.groups_GN if selection.groups_GN is not None else [], strict=True
    ):
        assert not keep_N[:12].any() and keep_N[12:].any()
        assert set(groups_N[:12].tolist()) == {-1} and groups_N[12:].min() >= 0
    assert selection.blocks_N[:12].max() == 0 and selection.blocks_N[12:].min() >= 2
    assert selection.processed(4).sum(0).tolist() == selection.blocks_N.tolist()
    merged, third, fourth = (int(keep_N.sum()) for keep_N in selection.keep_GN)
    assert selection.token_share(4) == pytest.approx((2 * merged + third + fourth) / (4 * models.N))


def test_a_merged_group_is_one_token_of_the_share() -> None:
    model = models.model(models.card("cts-svit"))  # merges before block 1, gates before blocks 3 and 4
    selection, _ = select_tokens(model, models.frames(1)[0])
    merged, third, fourth = (int(keep_N.sum()) for keep_N in selection.keep_GN)
    assert merged < models.N and selection.before == [1, 3, 4]
    assert selection.token_share(4) == pytest.approx((2 * merged + third + fourth) / (4 * models.N))


def test_a_picture_and_a_clip(edgeprune: Type, checkpoint: Path) -> None:
    said = edgeprune("show", checkpoint, "--camera", STREET, "--out", "tokens.png", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out) | {"token_share": 0} == {
        "out": "tokens.png", "frames": 1, "policy": "svit", "token_share": 0
    }  # fmt: skip
    assert np.asarray(Image.open("tokens.png")).std() > 20
    said = edgeprune("show", checkpoint, "--camera", STREET, "--out", "tokens.mp4", "--frames", 5)
    assert said.code == 0 and said.out.startswith("5 frames, "), said.err
    frames = list(open_source("tokens.mp4"))
    assert len(frames) == 5 and frames[0].image_HW3.shape == (64, 192, 3)


def test_calibrated_thresholds_are_used(edgeprune: Type, checkpoint: Path, tmp_path: Path) -> None:
    """The dynamic rate: with thresholds, frames differ in their share of tokens."""
    street = models.write_street(tmp_path)
    assert edgeprune("calibrate", checkpoint, "--data", street, "--frames", 8, "--out", "c.yaml").code == 0
    shares = set()
    for skip in (0, 40, 80):
        said = edgeprune("show", checkpoint, "--camera", STREET, "--skip", skip, "--calib", "c.yaml", "--json")
        shares.add(json.loads(said.out)["token_share"])
    assert len(shares) > 1
    fixed = {select_tokens(load(checkpoint)[0], frame_HW3)[0].blocks_N.sum() for frame_HW3 in models.frames(3)}
    assert len(fixed) == 1


def test_an_input_is_not_written_over(edgeprune: Type, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    picture = tmp_path / "frames" / "a.png"
    Image.fromarray(models.frames(1)[0]).save(picture)
    before = picture.read_bytes()
    for camera, out, line in (
        (picture, "frames/a.png", "is what is read from"),
        (picture.parent, "frames/a.png", "lies in"),
        (picture.parent, "frames/b.png", "lies in"),  # it would be read with the others the next time
    ):
        said = edgeprune("show", checkpoint, "--camera", camera, "--out", out)
        assert said.code == 2 and line in said.err
    assert picture.read_bytes() == before


def test_a_clip_has_the_times_of_its_source(edgeprune: Type, checkpoint: Path) -> None:
    write_video(Path("a.mkv"), [0, 0.04, 2.0])
    assert edgeprune("show", checkpoint, "--camera", "a.mkv", "--out", "a.mp4").code == 0
    times_s = [frame.presentation_s for frame in open_source("a.mp4")]
    assert times_s == pytest.approx([0, 0.04, 2.0], abs=3e-3)


def test_a_clip_that_ends_in_a_failure_says_where_it_is(
    edgeprune: Type, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("frames").mkdir()
    for name in "ab":
        Image.fromarray(models.frames(1)[0]).save(f"frames/{name}.png")
    Path("frames/c.png").write_bytes(Path("frames/b.png").read_bytes()[:300])
    show = ("show", checkpoint, "--camera", "frames", "--out", "a.mp4")
    assert_one_line(edgeprune(*show), "c.png", "; 2 frames until then are in a.partial.mp4", code=3)
    assert len(list(open_source("a.partial.mp4"))) == 2
    Path("frames/c.png").unlink()
    draw = tokens.draw_heat

    def take_the_name(*of: Any) -> np.ndarray:
        if Path("a.partial-2.mp4").exists():
            Path("a.mp4").mkdir()
        return draw(*of)

    monkeypatch.setattr(tokens, "draw_heat", take_the_name)
    kept = "; 2 frames until then are in a.partial-2.mp4"
    assert_one_line(edgeprune(*show), "cannot give a.mp4 its name", kept, code=3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--camera", STREET, "--out", "tokens.gif"], "--out tokens.gif: pictures are .png"),
        (["--camera", "nowhere.mp4"], "no camera, file or folder 'nowhere.mp4'"),
        (["--camera", STREET, "--calib", "no.yaml"], "no.yaml is not there"),
    ],
)
def test_bad_input(edgeprune: Type, checkpoint: Path, words: list[str], message: str) -> None:
    said = edgeprune("show", checkpoint, *words)
    assert said.code == 2 and message in said.err
    assert list(Path().iterdir()) == []


def test_things_are_outlined_over_the_tokens(edgeprune: Type, tmp_path: Path) -> None:
    path, card = tmp_path / "things.safetensors", instances.card(depth=3)
    model = instances.model(card)
    with torch.no_grad():
        model.head.place[2].bias[2:] += 0.7  # type: ignore[union-attr,operator,index]  # boxes twice as large
    save(path, card, model.state_dict())
    frame = next(iter(open_source(STREET)))
    drawn = tokens.Painter(path, None).look(frame)
    assert drawn.outline_HW is not None and 0 < drawn.outline_HW.mean() < 0.9  # it takes something for a thing
    edges_HW3 = outlined(draw_heat(drawn.image_HW3, drawn.selection, 3), drawn.outline_HW)
    assert (edges_HW3[drawn.outline_HW] == OUTLINE_RGB).all() and not (edges_HW3[~drawn.outline_HW] == 255).all()
    said = edgeprune("show", path, "--camera", STREET, "--out", "things.png")
    assert said.code == 0, said.err
    with_lines = np.asarray(Image.open("things.png"))
    assert (with_lines == 255).all(-1).mean() > 0.005
    assert edgeprune("show", path, "--camera", STREET, "--out", "things.mp4", "--frames", 2).code == 0
    assert next(iter(open_source("things.mp4"))).image_HW3.shape == (64, 192, 3)


def test_a_model_of_areas_has_no_outlines(checkpoint: Path) -> None:
    drawn = tokens.Painter(checkpoint, None).look(next(iter(open_source(STREET))))
    assert drawn.outline_HW is None


def test_in_a_region_no_thing_lies_outside(tmp_path: Path) -> None:
    path, card = tmp_path / "things.safetensors", instances.card(depth=3)
    save(path, card, instances.model(card).state_dict())
    painter = tokens.Painter(path, None)
    painter._model.restrict(Region((*["......"] * 2, *["######"] * 2)))
    drawn = painter.look(next(iter(open_source(STREET))))
    assert drawn.outline_HW is not None and drawn.outline_HW.any() and not drawn.outline_HW[:28].any()

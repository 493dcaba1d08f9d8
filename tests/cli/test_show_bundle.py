"""`show` of a bundle: which tokens its graphs compute, as pictures. With a memory: `tests/export/test_memory_in_runs.py`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.runtime.cameras import Frame, open_source
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.tasks import Result
from tests import bundles
from tests.cli.conftest import Type
from tests.cli.test_bad_input import assert_one_line

LARGE = 10  # times as large as the graphs take them: bars take a fifteenth above and below


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """Frames with 3 to 8 bright cells, large enough for a legend."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for bright in range(3, 9):
        image_HW3 = bundles.frame_with(bright).repeat(LARGE, 0).repeat(LARGE, 1)
        Image.fromarray(image_HW3).save(folder / f"{bright}.png")
    return folder


def test_a_picture_has_what_is_found_beside_the_tokens_that_go_on(edgeprune: Type, tiny: Path, camera: Path) -> None:
    said = edgeprune("show", tiny, "--camera", camera, "--skip", 3, "--out", "a.png", "--json")
    assert said.code == 0, said.err
    share = (3 * bundles.N + 9 * bundles.BUCKETS["quarter"]) / (bundles.DEPTH * bundles.N)
    assert json.loads(said.out) == {"out": "a.png", "frames": 1, "policy": "svit", "token_share": share}
    picture_HW3 = np.asarray(Image.open("a.png")).astype(float)
    frame_HW3 = np.asarray(Image.open(camera / "6.png")).astype(float)
    height, width, _ = frame_HW3.shape
    assert picture_HW3.shape == (height, 2 * width, 3)
    brightest = np.argsort(-bundles.cells(bundles.frame_with(6)).ravel())[: bundles.BUCKETS["quarter"]]
    share_RC = picture_HW3[:, width:].sum(-1) / frame_HW3.sum(-1)
    cells_N = np.median(share_RC.reshape(bundles.ROWS, 80, bundles.COLUMNS, 80).swapaxes(1, 2), axis=(2, 3)).ravel()
    assert set(np.flatnonzero(cells_N > 0.9)) == set(brightest.tolist())
    assert (np.sort(cells_N)[: bundles.N - len(brightest)] < 0.5).all()
    assert np.abs(picture_HW3[:, :width] - frame_HW3).mean() > 20  # with classes over it


def test_a_clip_has_a_picture_of_each_frame(edgeprune: Type, tiny: Path, camera: Path) -> None:
    Image.fromarray(bundles.frame_with(9)).save(camera / "9.png")  # of another size
    said = edgeprune("show", tiny, "--camera", camera, "--skip", 1, "--out", "a.mp4")
    assert said.code == 0 and said.out.startswith("6 frames, "), said.err
    assert "memory" not in said.out
    shapes = {frame.image_HW3.shape for frame in open_source("a.mp4")}
    assert shapes == {(bundles.H * LARGE, 2 * bundles.W * LARGE, 3)}
    assert len(list(open_source("a.mp4"))) == 6


def test_without_a_memory_no_frame_before_is_computed(
    edgeprune: Type, tiny: Path, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processed: list[str | None] = []
    process = Stream.process

    def note(self: Stream, frame: Frame) -> Result:
        processed.append(frame.name)
        return process(self, frame)

    monkeypatch.setattr(Stream, "process", note)
    assert edgeprune("show", tiny, "--camera", camera, "--skip", 3, "--out", "a.png").code == 0
    assert processed == ["6.png"]


def test_refusals(edgeprune: Type, tiny: Path, camera: Path, tmp_path: Path) -> None:
    dense, region = tmp_path / "dense", tmp_path / "region"
    bundles.write_bundle(dense, gated=False)
    bundles.write_bundle(region, region=["......", "######", "######", "###..."])
    for words, said in (
        ((tiny, "--calib", "c.yaml"), "is a bundle, which holds its thresholds; leave --calib out"),
        ((tiny, "--frames", 3), "out/tokens.png is one picture; leave --frames out"),
        ((tiny, "--out", tiny / "a.png"), "which is read; name a place outside of it"),
        ((tiny, "--skip", 9), "ended before frame 9; give a smaller --skip"),
        (
            (dense,),
            "(policy dense) says what it does with tokens; name its checkpoint, or a bundle of `edgeprune build",
        ),
        ((region,), "(policy svit, of a region) says what it does with tokens"),
    ):
        assert_one_line(edgeprune("show", *words, "--camera", camera), said)
    (dense / "manifest.json").write_text("{")
    assert_one_line(edgeprune("show", dense, "--camera", camera), "copy or build the bundle again")
    assert not Path("out/tokens.png").exists()


def test_a_bundle_is_shown_without_torch(tiny: Path, camera: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['nncf'] = None; sys.argv = ['edgeprune', *sys.argv[1:]]\n"
        "from edgeprune.cli.commands import run_command; sys.exit(run_command())"
    )
    words = ["show", str(tiny), "--camera", str(camera), "--out", "a.png"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0 and "wrote a.png" in done.stdout, done.stderr

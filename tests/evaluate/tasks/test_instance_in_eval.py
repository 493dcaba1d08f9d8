"""Things in `eval` and `bench`: every row is scored, what has none is refused, tables and files have the figures."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.cli import measure
from edgeprune.cli.show import WIDTH
from edgeprune.data import Sample
from edgeprune.evaluate import accuracy
from edgeprune.evaluate.accuracy import AccuracyResult, accuracy_of, evaluate, metric_of, open_scored
from edgeprune.evaluate.average_precision import load_library
from edgeprune.evaluate.graphs import Answer
from edgeprune.evaluate.tasks import METRICS
from tests import bundles
from tests.evaluate.tasks.things import DATA, EXPECTED, FRAMES, Found, Target, outputs_of, sample_of
from tests.results import bench_result, bench_row

pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval: pip install 'edgeprune[coco]'")


class Frames:
    """FRAMES as samples that are read when they are asked for."""

    def __init__(self, frames: Sequence[tuple[list[Target], list[Found]]] = FRAMES, things: bool = True):
        self.frames, self.things = frames, things

    @property
    def names(self) -> list[str]:
        return [f"frame-{index}" for index in range(len(self.frames))]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        sample = sample_of(self.frames[index][0])
        return sample if self.things else replace(sample, things=None)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def origin(self, index: int) -> str:
        return f"things.json, {self.names[index]}"


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Whose dense graph answers what FRAMES say of one frame after the other, and `half` nothing."""
    answers = iter([outputs_of(found) for _, found in FRAMES])

    def answer(frame_HW3: np.ndarray) -> Iterator[Answer]:
        assert frame_HW3.shape == (bundles.H, bundles.W, 3)
        yield Answer("dense", "fp32", 90, next(answers))
        yield Answer("half", "int8", 60, outputs_of([]))

    @contextmanager
    def opened(*asked: Any) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(answers=answer, all_tokens=90, describe=lambda: {"engine": "onnxruntime"})

    monkeypatch.setattr(accuracy, "open_graphs", opened)
    written = bundles.write_bundle(tmp_path / "tiny", precisions=("int8",))
    return written.seen_with(task="instance", names=DATA.names)


def by_row(result: AccuracyResult) -> dict[str, dict[str, Any]]:
    return {row.bucket: row.to_json() for row in result.rows}


def test_eval_scores_every_row(bundle: Bundle) -> None:
    result = evaluate(bundle, Frames(), DATA)
    rows = by_row(result)
    assert {name: rows["dense"][name] for name in EXPECTED if name in rows["dense"]} == pytest.approx(
        {name: value for name, value in EXPECTED.items() if "_ap" in name}
    )
    assert rows["half"]["mask_ap"] == rows["half"]["box_ap"] == 0.0
    assert (result.frames, result.scored_share) == (6, None)
    assert accuracy_of(result.rows, "dense", "fp32", "onnxruntime") == pytest.approx(EXPECTED["mask_ap"])
    assert metric_of(rows["dense"]) is METRICS["instance"]


def test_frames_without_things_are_refused(bundle: Bundle) -> None:
    with pytest.raises(
        InputError, match="the 2 frames of data set 'things' that are scored have no thing of car, person"
    ):
        evaluate(bundle, Frames([FRAMES[2], FRAMES[5]]), DATA)


def test_label_maps_are_refused(bundle: Bundle) -> None:
    with pytest.raises(
        InputError, match=r"things\.json, frame-0: frame has a label map and no things; score .* `format: coco`"
    ):
        evaluate(bundle, Frames(things=False), DATA)


def test_without_the_library_it_is_said_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    said = r"average precision needs faster-coco-eval.*pip install 'edgeprune\[coco\]'"
    for asked in (load_library, METRICS["instance"].check_library, lambda: open_scored("instance", DATA, "val")):
        with pytest.raises(InputError, match=said):
            asked()  # type: ignore[operator]
    METRICS["semantic"].check_library()


def test_a_split_is_opened_with_what_the_metric_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(accuracy, "open_split", lambda *rest, things: asked.append(things))
    for task in ("semantic", "instance"):
        open_scored(task, DATA, "val")
    assert asked == [False, True]
    with pytest.raises(
        InputError, match="unknown task 'instances'; choices: semantic, instance; did you mean 'instance'"
    ):
        open_scored("instances", DATA, "val")


def test_the_table_has_the_figures_of_the_task(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    measure.show_scores([row.to_json() for row in evaluate(bundle, Frames(), DATA).rows])
    head, _, dense, *_ = lines = capsys.readouterr().out.splitlines()
    assert head.split()[-9:] == ["mask", "AP", "AP50", "AP75", "APs", "APm", "APl", "box", "AP"]
    assert dense.split()[:3] == ["dense", "fp32", "onnxruntime"] and f"{EXPECTED['mask_ap']:.4f}" in dense
    assert "mask AP by class:" in lines and max(map(len, lines)) <= WIDTH


def test_bench_has_them_beside_times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = dict(zip(METRICS["instance"].brief, (0.31, 0.52, 0.1, 0.3), strict=True))
    rows = [replace(bench_row("single", "full", "fp32", 9.0), figures=known)]
    panels: list[dict[str, Any]] = []
    monkeypatch.setattr(measure, "plot_latency", lambda found, path: panels.append(dict(found)))
    paths = measure.write_bench(bench_result(rows), tmp_path)
    assert (
        paths[0]
        .read_text()
        .splitlines()[0]
        .endswith("peak_mb,mask_ap,mask_ap50,mask_ap_small,box_ap,speedup_min,speedup_max")
    )
    assert json.loads(paths[1].read_text())["rows"][0]["mask_ap"] == 0.31
    [(axis, [point])] = panels[0].items()
    assert (axis, point.latency_ms, point.percent) == ("mask AP (%)", 9.0, pytest.approx(31))
    assert list(measure.bench_columns(bench_result(rows)))[-4:] == [f"figures.{name}" for name in known]

"""The study of budgets on a bundle whose graphs answer with things."""

from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.base.table import render_table, write_csv
from edgeprune.lab.budgets import Frames, columns_of, study_engine
from edgeprune.lab.lending import answer_all
from tests import bundles
from tests.cli.test_eval_things import write_data_set

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")


def test_rows_say_average_precision(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "tiny", task="instance")
    frames = Frames.of(bundle, str(write_data_set(tmp_path)), None)
    rows = list(study_engine(bundle, "onnxruntime", frames, budgets=2, passes=1))
    assert len(rows) == 3 + 4 and all(row.figures == {"mask_ap": pytest.approx(0.75)} for row in rows)
    assert "mask AP" in render_table(rows, columns_of(frames.metric)).splitlines()[0]
    write_csv(tmp_path / "rows.csv", rows)
    assert (tmp_path / "rows.csv").read_text().splitlines()[0].endswith(",tokens,mask_ap,buckets")
    with pytest.raises(InputError, match="unknown output of a graph: 'labels'; choices: classes, scores, boxes, masks"):
        answer_all(bundle, "onnxruntime", frames)

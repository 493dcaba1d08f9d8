"""The study of agreement: what a bucket answers against the whole network, on a stream without labels."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.lab.agreement import covered, main
from tests import bundles

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Frames of 3, 8 and 20 bright cells."""
    made = tmp_path / "frames"
    made.mkdir()
    for number, bright in enumerate((3, 8, 20)):
        Image.fromarray(bundles.frame_with(bright)).save(made / f"{number}.png")
    return made


def test_each_bucket_against_all_tokens_and_dense(folder: Path, tmp_path: Path) -> None:
    """Every tail of this bundle adds its own number to the labels, so that no two agree anywhere."""
    bundle, out = bundles.write_bundle(tmp_path / "bundle").folder, tmp_path / "rows.json"
    main([str(bundle), str(folder), "--every", "1", "--out", str(out)], standalone_mode=False)
    content = json.loads(out.read_text())
    rows = {(row["bucket"], row["precision"]): row for row in content["rows"]}
    assert content["frames"] == 3 and len(rows) == 8
    for (bucket, _), row in rows.items():
        expected = {"full": 1.0, "auto": 1 / 3}.get(bucket, 0.0)
        assert row["whole"] == pytest.approx(expected) and row["dense"] == 0.0
        assert row["whole_least"] == (1.0 if bucket == "full" else 0.0)
    auto = rows["auto", "int8"]
    assert auto["chosen"] == {"quarter": 1, "half": 1, "full": 1}
    first = np.mean([bundles.BUCKETS[name] for name in auto["chosen"]])
    assert auto["tokens"] == pytest.approx((3 * bundles.N + 9 * first) / (bundles.DEPTH * bundles.N))


def test_bars_of_a_letterbox_are_left_out(tmp_path: Path) -> None:
    """Half as high as the input: of its rows of labels those in the middle are the frame's."""
    manifest = bundles.write_bundle(tmp_path / "bundle").manifest
    covered_hw = covered(manifest, bundles.H // 2, bundles.W)
    assert covered_hw.all(1).tolist() == [False, True, True, False] and covered_hw.sum() == 2 * bundles.COLUMNS
    assert covered(manifest, bundles.H, bundles.W).all()


def test_one_frame_of_so_many_and_no_more(folder: Path, tmp_path: Path) -> None:
    bundle, out = bundles.write_bundle(tmp_path / "bundle").folder, tmp_path / "rows.json"
    main([str(bundle), str(folder), "--every", "2", "--frames", "5", "--out", str(out)], standalone_mode=False)
    [auto] = [
        row for row in json.loads(out.read_text())["rows"] if row["bucket"] == "auto" and row["precision"] == "fp32"
    ]
    assert auto["chosen"] == {"quarter": 1, "full": 1}


def test_a_bundle_without_fp32_is_refused(folder: Path, tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", precisions=("int8",)).folder
    with pytest.raises(InputError, match="has int8, no fp32 to compare with; build it with --precision fp32"):
        main([str(bundle), str(folder)], standalone_mode=False)

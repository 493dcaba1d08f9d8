"""The study of what a bundle's memory is worth to things, on a small one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.data.datasets import load_data_set
from edgeprune.data.street_instances import plan_splits, write_data_set
from edgeprune.export.build import build
from edgeprune.export.inputs import BuildInputs
from edgeprune.lab.remembered.things import flicker, read_drives
from edgeprune.lab.remembered.ways import ALONE, DENSE, REMEMBERED, WAITING
from tests import models
from tests.export.conftest import small
from tests.export.remembering import pays
from tests.export.test_build_things import trained
from tests.lab.remembered.test_remembered import read, study
from tests.shared import made_once

pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval: pip install 'edgeprune[coco]'")

__all__ = ["pays", "trained"]
FRAMES = 8


@pytest.fixture(scope="session")
def remembers(trained: BuildInputs, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    inputs = replace(trained, memory=True)
    target = small("onnx-cpu", 2)
    made = made_once(
        tmp_path_factory, "things-memory", lambda folder: build(target, inputs, ["fp32"], folder / "bundle")
    )
    return open_bundle(made / "bundle")


@pytest.fixture(scope="module")
def parked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two drives whose camera stands, of the classes of the small network."""
    folder = tmp_path_factory.mktemp("parked")
    street = load_data_set(models.write_street(folder))
    written = folder / "set"
    written.mkdir()
    write_data_set(written, street, plan_splits(street, {"train": 1, "val": 2 * FRAMES, "test": 1}, FRAMES, speed=0))
    [file] = written.glob("*.yaml")
    about = yaml.safe_load(file.read_text())
    about |= {"names": list(street.names), "palette": [list(colour) for colour in street.palette]}
    file.write_text(yaml.safe_dump(about))
    return str(written)


def test_all_ways_find_things(remembers: Bundle, parked: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    (tmp_path / "rows-loops.csv").write_text("of an earlier run")
    said = study(str(remembers.folder), "--data", parked, "--frames", "6", "--out", str(out))
    rows = {row["way"]: row for row in read(out)}
    assert list(rows)[:4] == [DENSE, ALONE, REMEMBERED, WAITING] and any("repeated" in way for way in list(rows)[4:])
    assert float(rows[DENSE]["equal"]) == 1 and float(rows[DENSE]["speed"]) == 1
    assert float(rows[WAITING]["tokens"]) <= float(rows[REMEMBERED]["tokens"]) < 1
    assert all(0 <= float(row["mask_ap"]) <= 1 and float(row["mean_ms"]) > 0 for row in rows.values())
    assert "12 frames of" in said
    assert list(tmp_path.iterdir()) == [out]


def test_clips_are_those_of_the_names(remembers: Bundle, parked: str) -> None:
    drives = read_drives(parked, remembers, 3)
    names = [sample.name for sample in drives]
    assert [name[-4:] for name in names] == ["0000", "0001", "0002"] * 2 and names[0][:-5] != names[3][:-5]
    assert drives.begins == {0, 3}


def test_what_is_of_labels_is_refused(remembers: Bundle, parked: str) -> None:
    with pytest.raises(InputError, match="the bundle finds things, which clips do not say; name --data alone"):
        study(str(remembers.folder), "synthetic://street?seed=1")
    with pytest.raises(InputError, match="--loops compares labels"):
        study(str(remembers.folder), "--data", parked, "--loops", "2")
    with pytest.raises(InputError, match="the longest clip of .*, val, has 1 frames, expected 3 or more"):
        study(str(remembers.folder), "--data", alone(parked))


def alone(parked: str) -> str:
    """The same with frames of clips of one."""
    [file] = Path(parked).glob("*.yaml")
    about = yaml.safe_load(file.read_text()) | {"path": parked}
    about["val"] |= {"include": ["*-0000"]}
    other = Path(parked).parent / "alone.yaml"
    other.write_text(yaml.safe_dump(about))
    return str(other)


def test_flicker_is_the_mean_change_of_the_number_of_things() -> None:
    """Of scores of .5 and more; not over a cut."""
    answers = [{"scores": np.array(scores)} for scores in ([0.9, 0.4], [0.9, 0.5], [0.1, 0.1], [0.9, 0.9])]
    assert flicker(answers, {0}) == pytest.approx(5 / 3)
    assert flicker(answers, {0, 2}) == 1.5

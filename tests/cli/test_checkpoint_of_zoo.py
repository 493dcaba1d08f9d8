"""`zoo:NAME/FILE` is typed where a checkpoint is: an installed edgeprune has a zoo, in a folder that nobody knows."""

from pathlib import Path

import pytest

from edgeprune.base.reading import ROOT
from edgeprune.cli.defaults import calib_path
from tests.cli.conftest import Type
from tests.cli.test_bad_input import assert_one_line
from tests.cli.typed import parse

QAT = ROOT / "zoo" / "street-tiny" / "qat.safetensors"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("edgeprune build --checkpoint zoo:street-tiny/qat", "checkpoint"),
        ("edgeprune build --reference zoo:street-tiny/qat", "reference"),
        ("edgeprune baselines --data camvid --checkpoint zoo:street-tiny/qat", "checkpoint"),
        ("edgeprune calibrate zoo:street-tiny/qat --data camvid", "checkpoint"),
        ("edgeprune ablate selection zoo:street-tiny/qat --data camvid", "checkpoint"),
        ("edgeprune ablate int8 zoo:street-tiny/qat --data camvid", "checkpoint"),
        ("edgeprune show zoo:street-tiny/qat", "shown"),
    ],
)
def test_every_verb_that_takes_a_checkpoint(line: str, name: str) -> None:
    assert parse(line).params[name] == QAT


def test_what_the_zoo_has_not_is_said_in_a_line(edgeprune: Type) -> None:
    said = edgeprune("build", "--checkpoint", "zoo:street-tiny/qta")
    assert_one_line(said, "checkpoint 'zoo:street-tiny/qta' is not here", "zoo:street-tiny/qat")


def test_a_calibration_of_the_zoo_is_not_written_into_it() -> None:
    assert calib_path(QAT, "street-tiny", of_camera=False) == Path("out/calib/street-tiny-qat.yaml")
    assert calib_path(QAT, "street-tiny", of_camera=True) == Path("out/calib/street-tiny.yaml")
    mine = Path("out/train/mine/qat.safetensors")
    assert calib_path(mine, "mine", of_camera=False) == mine.with_name("calib-qat.yaml")
    assert calib_path(mine, "mine", of_camera=True) == Path("out/calib/mine.yaml")

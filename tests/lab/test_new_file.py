"""A file that a study writes at its end is tried at its beginning."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.lab import agreement, budgets, decoding, head_time, memory_parity, pipelining, shifted
from edgeprune.lab.new_file import NewFile, refuse_read
from edgeprune.lab.remembered import __main__ as remembered
from edgeprune.lab.through_time import __main__ as through_time

STUDIES = [agreement, budgets, decoding, head_time, memory_parity, pipelining, remembered, shifted, through_time]


@click.command()
@click.option("--out", type=NewFile())
def study(out: Path | None) -> None:
    click.echo(f"hours of work for {out}")


def test_it_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    found = CliRunner().invoke(study, ["--out", str(tmp_path / "new" / "rows.csv")], catch_exceptions=False)
    assert found.output == f"hours of work for {tmp_path / 'new' / 'rows.csv'}\n"
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "old.csv").write_text("kept")
    CliRunner().invoke(study, ["--out", str(tmp_path / "old.csv")], catch_exceptions=False)
    assert (tmp_path / "old.csv").read_text() == "kept"
    assert CliRunner().invoke(study, []).output == "hours of work for None\n"


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for given in (tmp_path, tmp_path / "file" / "rows.csv", Path("/dev/null")):
        with pytest.raises(InputError, match="cannot write"):
            CliRunner().invoke(study, ["--out", str(given)], catch_exceptions=False)


@pytest.mark.parametrize("module", STUDIES, ids=lambda module: module.__name__)
def test_every_study_of_one_file_tries_it(module: object) -> None:
    command = module.main  # type: ignore[attr-defined]
    (out,) = (option for option in command.params if option.name == "out")
    assert isinstance(out.type, NewFile)


def test_what_is_read_is_not_replaced(tmp_path: Path) -> None:
    bundle, clip = tmp_path / "bundle", tmp_path / "clip.mp4"
    bundle.mkdir()
    clip.touch()
    (tmp_path / "link.csv").symlink_to(clip)
    for out in (bundle / "manifest.json", clip, tmp_path / "link.csv"):
        with pytest.raises(InputError, match="which is read; name a place outside of it"):
            refuse_read(out, bundle, str(clip))
    refuse_read(tmp_path / "rows.csv", bundle, str(clip), "synthetic://street?seed=1", "0")
    refuse_read(None, bundle)


@pytest.mark.parametrize("module", STUDIES, ids=lambda module: module.__name__)
def test_no_study_replaces_a_file_of_its_bundle_or_checkpoint(module: object, tmp_path: Path) -> None:
    """Whatever else it needs is refused after that."""
    (tmp_path / "manifest.json").write_text("kept")
    (tmp_path / "model.safetensors").write_text("kept")
    out = tmp_path / "model.safetensors"
    command = module.main  # type: ignore[attr-defined]
    needed = [param.name for param in command.params if param.required or param.name == "clip"]
    given = {"bundle": str(tmp_path), "checkpoint": str(out), "clip": "clip.mp4"}
    given |= {"engine": "--engine=openvino", "data": "--data=camvid"}
    typed = [given[name] for name in needed if name]
    with pytest.raises(InputError, match="which is read"):
        CliRunner().invoke(command, [*typed, "--out", str(out)], catch_exceptions=False)

"""What a user sets in the environment: one line that names the variable, whatever is in it, by every verb."""

import sys
from pathlib import Path

import pytest

from edgeprune.base.device import cache_folder, memory_mb, most_megapixels, typing, workspace_mb
from edgeprune.base.errors import InputError
from edgeprune.cli.commands import run_command


@pytest.mark.parametrize("variable", ["EDGEPRUNE_MEMORY_MB", "EDGEPRUNE_WORKSPACE_MB"])
@pytest.mark.parametrize("value", ["9" * 5000, "0", "00000000", "-1", "1.5", "1e3", "512MB", " ", "٣", "1048577"])
def test_megabytes_that_are_none(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(
        InputError, match=f"^{variable} is .*; expected megabytes as a whole number from 1 to 1048576"
    ) as error:
        (memory_mb if "MEMORY" in variable else workspace_mb)()
    assert len(str(error.value)) < 200


def test_what_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEMORY_MB", "WORKSPACE_MB", "TYPING", "MEGAPIXELS"):
        monkeypatch.setenv(f"EDGEPRUNE_{name}", "")
    assert (memory_mb(), workspace_mb(), typing(), most_megapixels()) == (None, 1024, None, 64)
    monkeypatch.setenv("EDGEPRUNE_MEMORY_MB", "1048576")
    assert memory_mb() == 1 << 20


@pytest.mark.parametrize(
    ("variable", "value"),
    [("EDGEPRUNE_MEMORY_MB", "9" * 5000), ("EDGEPRUNE_WORKSPACE_MB", "lots"), ("EDGEPRUNE_TYPING", "x" * 5000),
     ("EDGEPRUNE_MEGAPIXELS", "1e300")],
)  # fmt: skip
def test_every_verb_says_what_it_cannot_read(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that has no use for it: the next one may be an hour's compiling."""
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "argv", ["edgeprune", "targets"])
    assert run_command() == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"edgeprune: {variable} is ") and len(said.err.splitlines()) == 1
    assert len(said.err) < 400


def test_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEPRUNE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for shared, expected in (
        (str(tmp_path / "c"), tmp_path / "c"),
        ("relative", tmp_path / ".cache"),
        ("", tmp_path / ".cache"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", shared)
        assert cache_folder() == expected / "edgeprune"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(InputError, match="this user has no home folder; set EDGEPRUNE_CACHE"):
        cache_folder()

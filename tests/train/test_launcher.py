"""Who of several processes speaks."""

import logging

import pytest

from edgeprune.base.errors import InputError
from edgeprune.train.launcher import index_of_process, one_voice, processes_launched


@pytest.fixture(params=["0", "1"])
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """This process as one of two on a machine; they have no store in common yet."""
    for key in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(key, request.param)
    monkeypatch.setenv("WORLD_SIZE", "2")
    root = logging.getLogger("edgeprune")
    monkeypatch.setattr(root, "level", root.level)
    return int(request.param)


def test_the_main_process_speaks(index: int, said: list[str]) -> None:
    assert (processes_launched(), index_of_process()) == (2, index)
    with one_voice():
        logging.getLogger("edgeprune.train").warning("said")
    assert said == ["said"][index:]


@pytest.mark.parametrize("error", [InputError("wrong"), KeyboardInterrupt()])
def test_what_all_of_them_see_is_said_by_the_first(index: int, error: BaseException) -> None:
    with pytest.raises(SystemExit if index else type(error)), one_voice():
        raise error


def test_without_a_launcher_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # of something else
    monkeypatch.delenv("RANK", raising=False)
    assert (processes_launched(), index_of_process()) == (1, 0)
    with pytest.raises(InputError), one_voice():
        raise InputError("wrong")

"""Errors name what was found, what was expected, and the nearest choice."""

import pytest

from edgeprune.base.errors import EdgepruneError, InputError, RunError, choose, nearest


def test_exit_codes() -> None:
    assert (InputError.exit_code, RunError.exit_code) == (2, 3)
    assert issubclass(InputError, EdgepruneError) and issubclass(RunError, EdgepruneError)


def test_nearest() -> None:
    assert nearest("dence", ["dense", "svit"]) == "; did you mean 'dense'?"
    assert nearest("quartz", ["dense", "svit"]) == ""


def test_choose() -> None:
    choices = {"dense": 1, "svit": 2}
    assert choose(choices, "svit", "policy") == 2
    with pytest.raises(InputError) as found:
        choose(choices, "svt", "policy")
    assert str(found.value) == "unknown policy 'svt'; choices: dense, svit; did you mean 'svit'?"
    with pytest.raises(InputError, match=r"unknown policy 'quartz'; choices: dense, svit$"):
        choose(choices, "quartz", "policy")

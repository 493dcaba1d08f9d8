from typing import Any

import pytest

from edgeprune.base.duration import read_duration, shown_duration
from edgeprune.base.errors import InputError


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1.5h", 5400),
        ("0", 0),
        ("90", 90),
        (" 2M ", 120),
        (300, 300),
        (0.5, 0.5),
        ("8760h", 31_536_000),
    ],
)
def test_durations(given: Any, seconds: float) -> None:
    assert read_duration(given, "--give-up") == seconds


@pytest.mark.parametrize(
    "given", ["", "m", "5 minutes", "-1", "-1s", "1e3", "nan", "9000h", "\u0665m", True, -1, float("nan"), None, []]
)
def test_what_is_none(given: Any) -> None:
    with pytest.raises(InputError, match="--give-up .* is no duration up to a year; write one as 30s, 5m, 2h, or 0"):
        read_duration(given, "--give-up")


def test_as_people_read_them() -> None:
    assert [shown_duration(each) for each in (0.25, 30, 300, 5400, 59.96)] == [
        "0.2 s",
        "30 s",
        "5 min",
        "1.5 h",
        "60 s",
    ]

"""Overlays as JPEGs."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.page.pictures import MAPPED_S, MOST_PX, Pictures
from edgeprune.runtime.page.publisher import Publisher
from tests.runtime.loop.fakes import Scripted
from tests.runtime.page.conftest import ABOUT, Asked, publish, publish_mapped
from tests.runtime.sinks.found import PALETTE, Found


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(Scripted(0))


def test_a_frame_is_drawn_once_and_only_when_somebody_asks(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    overlay = Found.overlay

    def drawing(found: Found, tokens: bool = False) -> UInt8:
        drawn.append(found.index)
        return overlay(found)

    monkeypatch.setattr(Found, "overlay", drawing)
    pictures = Pictures(publisher)
    assert pictures.newest() is None
    for index in range(4):
        publish(publisher, index)
    assert drawn == []
    first = pictures.newest()
    assert first is pictures.newest() and drawn == [3]
    publish(publisher, 4)
    second = pictures.newest()
    assert second and second.number == 5 and drawn == [3, 4] and pictures.drawn == 2


def test_what_it_holds(publisher: Publisher) -> None:
    publish(publisher, 3, height=20, width=30)
    picture = Pictures(publisher).newest()
    assert picture is not None
    image = np.asarray(Image.open(io.BytesIO(picture.jpeg)))
    assert image.shape == (20, 30, 3) and np.all(np.abs(image.astype(int) - 3) <= 2)
    assert picture.pixels[3] == 20 * 30 - 1 and picture.pixels[255] == 1 and sum(picture.pixels) == 600
    assert list(picture.palette) == PALETTE


def test_tokens_are_drawn_for_those_who_want_them(publisher: Publisher) -> None:
    asked = Asked()
    publisher.about = replace(ABOUT, map_tokens=asked)
    pictures = Pictures(publisher)

    def grey(tokens: bool) -> tuple[int, bool]:
        picture = pictures.newest(tokens)
        assert picture is not None
        return int(np.asarray(Image.open(io.BytesIO(picture.jpeg)))[0, 0, 0]), picture.mapped

    publish_mapped(publisher, 0, known=False)
    assert grey(False) == (50, False) and asked == []
    assert grey(True) == (50, False) and asked == [MAPPED_S]  # the loop hears of it
    publish_mapped(publisher, 1)
    assert grey(True) == (200, True) and grey(False) == (50, False) and grey(True) == (200, True)
    assert pictures.drawn == 4  # once a frame and kind


@pytest.mark.parametrize(("width", "shown"), [(MOST_PX, MOST_PX), (MOST_PX + 2, MOST_PX // 2 + 1), (3840, 1280)])
def test_a_large_picture_is_sent_smaller(publisher: Publisher, width: int, shown: int) -> None:
    publish(publisher, 0, height=60, width=width)
    picture = Pictures(publisher).newest()
    assert picture is not None and Image.open(io.BytesIO(picture.jpeg)).width == shown

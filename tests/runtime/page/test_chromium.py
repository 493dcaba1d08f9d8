"""The page in a browser: it plays, its figures change, it is steered by keys, and it says what is wrong."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.runtime.page.publisher import SILENT_S
from tests.runtime.page.chromium import Browser, browser, find_chromium
from tests.runtime.page.conftest import ABOUT, TOKEN, Noisy, Serve, Served, publish_counted, publish_mapped, until
from tests.runtime.rows import row

# what the picture shows this moment
PIXELS = """(() => {
  const canvas = document.createElement("canvas"), still = document.getElementById("frame").classList.contains("still");
  const context = canvas.getContext("2d");
  context.drawImage(document.getElementById(still ? "still" : "picture"), 0, 0);
  return Array.from(context.getImageData(0, 0, 9, 6).data).join();
})()"""


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    find_chromium()
    with browser(tmp_path / "profile") as opened:
        yield opened


class Loop(threading.Thread):
    """Frames, 20 a second, until it is ended."""

    def __init__(self, served: Served):
        super().__init__(daemon=True)
        self._served, self.done = served, threading.Event()
        self.start()

    def run(self) -> None:
        index = 0
        while not self.done.wait(0.05):
            values = {"end_ns": time.monotonic_ns(), "bucket": ("half", "full")[index % 2], "dropped": index % 3}
            self._served.publisher.publish(Noisy(index % 6), row(index, **values))
            index += 1

    def end(self) -> None:
        self.done.set()
        self.join()


def text(tab: Browser, name: str) -> str:
    return str(tab.evaluate(f"document.getElementById('{name}').textContent"))


def test_it_plays_and_is_steered_by_keys(serve: Serve, tab: Browser) -> None:
    served = serve(TOKEN)
    tab.open(f"http://127.0.0.1:{served.port}/?token={TOKEN}")
    tab.until("document.getElementById('state')?.textContent === 'no frame yet'")
    assert text(tab, "note") == "Waiting for the first frame."
    loop = Loop(served)
    tab.until("document.getElementById('picture').naturalWidth === 320")
    tab.until("document.getElementById('state').textContent === 'live'")
    assert tab.evaluate("location.href").endswith(f":{served.port}/")  # the token has left the address
    first = tab.evaluate(PIXELS)
    tab.until(f"{PIXELS} !== '{first}'")
    frames = text(tab, "frames")
    tab.until(f"document.getElementById('frames').textContent !== '{frames}'")
    assert text(tab, "model") == "tiny" and text(tab, "energy") == "no energy sensor: none"
    tab.until("document.querySelectorAll('#legend li').length === 6")
    assert (
        tab.evaluate("[...document.querySelectorAll('#buckets tbody th')].map(each => each.textContent).join()")
        == "half,full"
    )
    tab.until("(document.querySelector('#latency .first').getAttribute('d') || '').includes('L')")
    tab.press(" ", "Space")
    tab.until("document.getElementById('state').textContent === 'paused'")
    until(lambda: served.page.viewers == 0)  # who does not look costs nothing
    tab.until("document.getElementById('note').textContent === 'paused'")
    frozen, frames = tab.evaluate(PIXELS), text(tab, "frames")
    time.sleep(1.5)
    assert tab.evaluate(PIXELS) == frozen and text(tab, "frames") == frames
    tab.press(" ", "Space")
    tab.until(f"{PIXELS} !== '{frozen}' && document.getElementById('state').textContent === 'live'")
    order = []
    for _ in range(2):
        tab.press("Tab", "Tab")
        order.append(tab.evaluate("document.activeElement.id"))
    assert order == ["pause", "snapshot"]
    loop.end()
    assert not tab.said, tab.said  # no error, and nothing that the policy forbids


def test_tokens_are_shown_at_the_press_of_a_key(serve: Serve, tab: Browser) -> None:
    served = serve()
    publish_mapped(served.publisher, 0)
    tab.open(f"http://localhost:{served.port}/")
    tab.until("document.getElementById('state')?.textContent === 'live'")
    hidden, corner = "document.getElementById('tokens').hidden", f"{PIXELS}.split(',')[0] >> 4"
    assert tab.evaluate(hidden)  # this bundle has nothing to show
    tab.press("t", "KeyT")
    served.publisher.about = replace(ABOUT, map_tokens=lambda seconds: True)
    tab.until(f"!{hidden} && {corner} === {50 >> 4}")
    assert tab.evaluate("document.getElementById('token-note').hidden")
    tab.press("t", "KeyT")
    tab.until(f"{corner} === {200 >> 4}")
    tab.until(
        "document.getElementById('token-note').textContent === "
        "'Tokens after the first decision: 2 of 6. Dark ones are let go.'"
    )
    assert tab.evaluate("document.getElementById('tokens').getAttribute('aria-pressed')") == "true"
    assert tab.evaluate("document.getElementById('snapshot').href").endswith("/snapshot.jpg?tokens=1")
    tab.evaluate("document.getElementById('tokens').click()")
    tab.until(f"{corner} === {50 >> 4} && document.getElementById('token-note').hidden")
    tab.press("t", "KeyT")
    tab.until(f"{corner} === {200 >> 4}")
    served.publisher.about = ABOUT  # another bundle, which has none
    tab.until(f"{hidden} && {corner} === {50 >> 4}")
    assert not tab.said, tab.said


def test_tokens_that_are_carried_are_told_where_there_are_some(serve: Serve, tab: Browser) -> None:
    served = serve()
    served.publish(0)
    tab.open(f"http://localhost:{served.port}/")
    line = "document.getElementById('remembered')"
    tab.until(f"document.getElementById('state')?.textContent === 'live' && {line}.hidden")
    served.publish(1, computed=24, carried=744, refreshed=6)
    words = "24 tokens computed, 6 of them in their turn, 744 carried"
    tab.until(f"!{line}.hidden && {line}.textContent === '{words}'")
    served.publish(2)
    tab.until(f"{line}.hidden")
    assert not tab.said, tab.said


def test_one_viewer_too_many_waits_for_a_place(serve: Serve, tab: Browser) -> None:
    served = serve()
    served.publish(1)
    others = [served.watch() for _ in range(8)]
    until(lambda: served.page.viewers == 8)
    tab.open(f"http://localhost:{served.port}/")
    tab.until(
        "document.getElementById('note')?.textContent === 'As many are watching as this page serves. Trying again.'"
    )
    others.pop().close()
    tab.until("document.getElementById('picture').naturalWidth === 9 && document.getElementById('note').hidden")
    for each in others:
        each.close()


def test_it_says_what_is_wrong(serve: Serve, tab: Browser) -> None:
    served = serve()
    served.publish(1, end_ns=time.monotonic_ns() - round((SILENT_S + 3) * 1e9))
    served.publisher.warn("the camera <b>stalls</b>")
    tab.open(f"http://localhost:{served.port}/")
    tab.until("/^no frame for [0-9]+ s$/.test(document.getElementById('state')?.textContent)")
    tab.until("document.querySelector('#faults .fault')?.textContent === 'the camera <b>stalls</b>'")
    tab.until("document.getElementById('picture').naturalWidth > 0")
    served.server.stop()
    tab.until("document.getElementById('state').textContent === 'no connection'")
    assert text(tab, "note") == "The run has ended, or the device is away."
    tab.until("document.getElementById('frame').classList.contains('still')")  # the last picture stays
    assert tab.evaluate("document.getElementById('still').width") == 9


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800), (320, 600)])
def test_nothing_lies_outside_of_a_phone_or_a_desktop(serve: Serve, tab: Browser, width: int, height: int) -> None:
    served = serve()
    served.publish(1, height=60, width=90)
    served.publisher.warn("x" * 300)
    tab.size(width, height, phone=width < 500)
    tab.open(f"http://localhost:{served.port}/")
    tab.until("document.querySelectorAll('#legend li').length === 6")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    wide = (
        "[...document.querySelectorAll('body *')].filter(each => each.getBoundingClientRect().right > innerWidth + 1)"
    )
    assert tab.evaluate(f"{wide}.map(each => each.id || each.tagName).join()") == ""


def test_the_legend_says_how_many_things_there_are(serve: Serve, tab: Browser) -> None:
    served = serve()
    publish_counted(served.publisher, 1, {"sky": 3})
    tab.open(f"http://127.0.0.1:{served.port}/")
    tab.until("document.querySelectorAll('#legend li').length === 6")
    said = tab.evaluate("[...document.querySelectorAll('#legend li')].slice(0, 2).map(each => each.innerText).join()")
    assert "".join(str(said).split()) == "road0,sky3(98.2%)"
    assert (
        tab.evaluate("[...document.querySelectorAll('#legend li')].map(each => each.className).join()")
        == "none,,none,none,none,none"
    )

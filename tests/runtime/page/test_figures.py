"""/stats."""

import time
from dataclasses import replace

import pytest

from edgeprune.runtime.page.figures import FRESH_S, Figures
from edgeprune.runtime.page.pictures import Pictures
from edgeprune.runtime.page.publisher import Publisher
from tests.runtime.loop.fakes import Scripted
from tests.runtime.page.conftest import ABOUT, Serve, publish, publish_counted, publish_mapped


def test_before_the_first_frame(serve: Serve) -> None:
    served = serve()
    served.publisher.about = None
    stats = served.ask("/stats").json
    assert stats["frame"] is None and stats["silence"] == "no frame yet" and stats["classes"] == stats["buckets"] == []
    assert stats["window"]["fps"] is None and stats["window"]["latency_ms"] == {"p50": None, "p95": None}
    assert stats["camera"] == {"uri": "scripted", "fps": 10, "live": False}


def test_what_it_says_of_a_run(serve: Serve) -> None:
    served = serve()
    served.publisher.warn("the camera is slow")
    now_ns = time.monotonic_ns()
    for index, (latency_ms, bucket, ago_ms) in enumerate(
        [(10.0, "half", 2000), (20.0, "half", 1500), (90.0, "full", 0)]
    ):
        end_ns = now_ns - ago_ms * 10**6
        served.publish(index, end_ns=end_ns, latency_ms=latency_ms, bucket=bucket, tokens=12, dropped=index)
    served.ask("/snapshot.jpg")
    stats = served.ask("/stats").json
    assert (stats["model"], stats["engine"], stats["energy"]) == (ABOUT.model, ABOUT.engine, ABOUT.energy)
    assert (stats["frames"], stats["dropped"], stats["damaged"], stats["silence"]) == (3, 3, 3, None)
    assert [each["line"] for each in stats["faults"]["last"]] == ["the camera is slow"]
    assert stats["frame"]["index"] == 2 and stats["frame"]["bucket"] == "full" and stats["frame"]["latency_ms"] == 90
    assert stats["frame"]["stages_ms"]["encode"] is None and stats["frame"]["stages_ms"]["trunk"] == 3.25
    window = stats["window"]
    assert window["watts"] is None and window["points"][0]["watts"] is None and window["mj_per_frame"] is None
    assert window["fps"] == 1.0 and window["latency_ms"] == {"p50": 20.0, "p95": 83.0} and window["dropped"] == 3
    assert sum(each["frames"] for each in window["points"]) == 3
    ages_s = [each["age_s"] for each in window["points"]]
    assert ages_s == sorted(ages_s, reverse=True) and -0.6 < ages_s[-1] < 1.5
    assert stats["buckets"] == [
        {"name": "half", "token_share": 0.5, "frames": 2},
        {"name": "full", "token_share": 1.0, "frames": 1},
    ]
    assert [each["name"] for each in stats["classes"]] == ["road", "sky", "2", "3", "4", "5"]
    assert stats["classes"][2] == {"name": "2", "rgb": [80, 235, 7], "pixel_share": round(53 / 54, 4)}


def test_power_where_a_sensor_tells(serve: Serve) -> None:
    served = serve()
    for index, watts in enumerate([None, 4.0, 5.0]):
        served.publish(index, watts=watts)
    window = served.ask("/stats").json["window"]
    assert window["watts"] == 4.5
    assert {each["watts"] for each in window["points"]} <= {None, 4.0, 4.5, 5.0}


def test_tokens_where_frames_have_a_map_of_them(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.page.figures.FRESH_S", 0.0)
    served = serve()
    served.publish(0)
    assert served.ask("/stats").json["token_map"] is None
    served.publisher.about = replace(ABOUT, map_tokens=lambda seconds: True)
    assert served.ask("/stats").json["token_map"] == {"left": None, "of": None, "merges": None}
    publish_mapped(served.publisher, 1)
    assert served.ask("/stats").json["token_map"] == {"left": 2, "of": 6, "merges": False}


def test_what_was_computed_where_frames_before_are_remembered(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.page.figures.FRESH_S", 0.0)
    served = serve()
    served.publish(0)
    assert served.ask("/stats").json["frame"]["remembered"] is None
    served.publish(1, computed=24, carried=744, refreshed=6)
    told = served.ask("/stats").json["frame"]["remembered"]
    assert told == {"computed": 24, "carried": 744, "refreshed": 6}


def test_many_who_ask_get_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher(Scripted(0))
    figures = Figures("", {"": publisher}, Pictures(publisher))
    first = figures.json(0)
    publish(publisher, 0)
    assert figures.json(0) is first
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 2 * FRESH_S)
    assert b'"frames": 1' in figures.json(0)


def test_how_many_things_of_each_class_there_are(serve: Serve) -> None:
    served = serve()
    served.publish(0)
    served.ask("/snapshot.jpg")
    stats = served.ask("/stats").json
    assert stats["frame"]["things"] is None and all("count" not in each for each in stats["classes"])
    served = serve()
    publish_counted(served.publisher, 1, {"sky": 3})
    served.ask("/snapshot.jpg")
    stats = served.ask("/stats").json
    assert stats["frame"]["things"] == {"sky": 3}
    assert [(each["name"], each["count"]) for each in stats["classes"]][:3] == [("road", 0), ("sky", 3), ("2", 0)]
    publish_counted(served.publisher, 2, {})
    assert Pictures(served.publisher).newest() is not None

"""The live page as a sink of a run."""

import http.client
import json
import logging
import re
import subprocess
import sys
import threading

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime import page
from edgeprune.runtime.page.address import Address
from edgeprune.runtime.sinks import outputs_of
from edgeprune.runtime.sinks.view import View, check_view
from tests.runtime.loop.fakes import Scripted
from tests.runtime.page.conftest import ABOUT, until
from tests.runtime.rows import row
from tests.runtime.sinks.found import Found

LIBRARIES = ("starlette", "uvicorn", "prometheus_client")


@pytest.fixture
def libraries() -> None:
    for library in LIBRARIES:
        pytest.importorskip(library, reason="needs the extra `view`: pip install 'edgeprune[view]'")


def stats(view: View) -> dict[str, object]:
    found = re.fullmatch(r"live page: http://127\.0\.0\.1:(\d+)/", view.note or "")
    assert found
    connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
    connection.request("GET", "/stats")
    return dict(json.loads(connection.getresponse().read()))


@pytest.mark.usefixtures("libraries")
def test_it_serves_from_before_the_first_frame_to_the_end(caplog: pytest.LogCaptureFixture) -> None:
    view = View("0", Scripted(0))
    try:
        assert stats(view)["silence"] == "no frame yet"
        view.learn(ABOUT)
        given = row(3)
        assert view.add(Found(3), given) is given and view.kept is None
        logging.getLogger("edgeprune.runtime.run").warning("the camera is slow")
        logging.getLogger("edgeprune.runtime.run").info("frame 3")
        until(lambda: stats(view)["frames"] == 1)  # an answer may be half a second old
        said = stats(view)
    finally:
        view.close()
    assert said["model"] == "tiny"
    assert [each["line"] for each in said["faults"]["last"]] == ["the camera is slow"]  # type: ignore[index]
    view.abandon()
    assert not any(each.name == "live page" for each in threading.enumerate())
    assert not [each for each in logging.getLogger("edgeprune").handlers if "Faults" in type(each).__name__]


@pytest.mark.usefixtures("libraries")
def test_an_address_that_is_taken_is_refused_before_anything_is_begun() -> None:
    with Address("127.0.0.1", 0).bind() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        for refuse in (check_view, lambda name: View(name, Scripted(0)), lambda name: outputs_of({"view": name})):
            with pytest.raises(InputError, match=f"--view: port {port} is taken by another program"):
                refuse(str(port))
    assert outputs_of({"view": "0"}) == []


def test_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("app", "guard", "server"):
        monkeypatch.delitem(sys.modules, f"edgeprune.runtime.page.{name}", raising=False)
        monkeypatch.delattr(page, name, raising=False)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(
        InputError, match=r"--view needs libraries that cannot be imported .*; pip install 'edgeprune\[view\]'"
    ):
        check_view("0")


def test_a_loop_starts_without_its_libraries() -> None:
    code = (
        f"import sys; import edgeprune.runtime.sinks; sys.exit(', '.join({set(LIBRARIES)!r} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

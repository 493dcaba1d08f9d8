"""What a container's health check asks."""

import subprocess
import sys

import pytest

from edgeprune.runtime.page.address import TOKEN_VARIABLE
from edgeprune.runtime.page.health import ask
from tests.runtime.page.conftest import TOKEN, Serve


def test_it_is_well_while_frames_come(serve: Serve) -> None:
    served = serve()
    assert ask(served.port) == (False, "no frame yet")
    served.publish(0)
    assert ask(served.port) == (True, "ok")
    command = [sys.executable, "-m", "edgeprune.runtime.page.health", str(served.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    served.server.stop()
    well, said = ask(served.port)
    assert not well and said.startswith(f"no page at port {served.port}: ")


def test_it_knows_the_token_of_its_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(token=TOKEN)
    served.publish(0)
    assert not ask(served.port)[0]
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert ask(served.port) == (True, "ok")

"""What the Dockerfile names is there. It is not built here: there is no docker on the machines that test."""

import fnmatch
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINES = [
    line for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines() if line and line[0] != "#"
]


def of(instruction: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in LINES if line.startswith(f"{instruction} ")]


def sent(path: str) -> bool:
    """Whether `.dockerignore` lets a path through: the last line that matches decides."""
    through = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and line[0] != "#" and any(fnmatch.fnmatch(part, pattern) for part in _and_above(path)):
            through = line[0] == "!"
    return through


def _and_above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def test_what_is_copied_is_there_and_sent() -> None:
    copied = [word for line in of("COPY") if not line.startswith("--from") for word in line.split()[:-1]]
    assert {"pyproject.toml", "README.md", "LICENSE", "edgeprune", "targets", "calib"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists() and sent(path), path
    assert sent("edgeprune/zoo/street-tiny/qat.safetensors") and sent("edgeprune/runtime/page/page.html")
    for path in (".git", "out/x", "docs/design.md", "tests", ".venv", "edgeprune/zoo/street-tiny/pretrain.safetensors"):
        assert not sent(path), path


def test_the_entry_point_and_the_extras_are_those_of_the_package() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml with the tomllib of Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [entry], [begun] = of("ENTRYPOINT"), of("CMD")
    assert json.loads(entry)[0] in project["scripts"]  # JSON: the exec form
    assert json.loads(begun)[:2] == ["run", "--config"]
    [extras] = re.findall(r"\[([a-z,]+)\]", " ".join(of("RUN")))
    assert set(extras.split(",")) == {"video", "view"} <= project["optional-dependencies"].keys()


def test_it_is_a_user_s_and_asks_for_its_health() -> None:
    [user] = of("USER")
    assert user not in ("root", "0") and f"edgeprune {user}".split()[1] in " ".join(of("RUN"))
    [health] = of("HEALTHCHECK")
    words = json.loads(health.partition("CMD ")[2])
    assert words[:2] == ["python", "-m"] and find_spec(words[2])
    order = [line.split()[0] for line in LINES]
    assert order.index("USER") < order.index("ENTRYPOINT") and order[0] == "FROM"

"""`docs/targets.md` says every key of a target that there is."""

from pathlib import Path

import yaml

from edgeprune.base.reading import shipped
from edgeprune.bundle.target import load_target
from edgeprune.lab.target_page import PAGE, page, undescribed

DOCS = Path(__file__).parents[2] / "docs"


def test_every_key_has_a_meaning() -> None:
    assert undescribed() == []


def test_the_page_is_of_these_keys() -> None:
    assert (DOCS / PAGE).read_text() == page(), "type: python -m edgeprune.lab.target_page docs"


def test_every_shipped_target_is_on_the_page() -> None:
    lines = page().splitlines()
    for path in shipped("targets").glob("*.yaml"):
        assert f"| `{path.stem}` | {load_target(path.stem).summary} |" in lines


def test_the_target_that_the_page_shows_is_one(tmp_path: Path) -> None:
    shown = page().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "my-board.yaml").write_text(shown)
    target = load_target(str(tmp_path / "my-board.yaml"))
    orin = load_target("jetson-orin")
    assert (target.name, target.threads, target.buckets.count) == ("my-board", 4, 3)
    assert target.power.total == ["VDD_IN"] and target.lint == orin.lint and target.precisions == orin.precisions
    assert set(yaml.safe_load(shown)) >= {"extends", "name"}

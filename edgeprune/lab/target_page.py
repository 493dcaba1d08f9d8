"""`docs/targets.md`: every key of a target, and what may stand there, made from what reads it.

python -m edgeprune.lab.target_page docs
"""

import sys
from pathlib import Path

from pydantic import BaseModel

from edgeprune.base.files import write_atomic
from edgeprune.base.reading import shipped
from edgeprune.bundle.runtime_spec import Parity, Power
from edgeprune.bundle.target import BucketFamily, Target, load_target
from edgeprune.export.lint import RULES
from edgeprune.lab.recipe_page import table, undescribed_in
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import SENSORS

PAGE = "targets.md"


def _shares(parity: Parity) -> str:
    return ", ".join(f"`{name}` {share:g}" for name, share in parity)


SECTIONS: dict[str, tuple[type[BaseModel], str]] = {
    "A target": (Target, "The keys at the top."),
    "`buckets`": (BucketFamily, "The sizes of graphs that a frame can choose from."),
    "`parity`, `parity_of_things`": (
        Parity,
        "Shares of labels, or of things found (their masks' overlap, at matched things). `build` refuses to write a bundle "
        "that has less, and a device that compiles compares with the bundle's reference frames. "
        "The defaults below are of labels; of "
        f"things they are {_shares(Target.model_fields['parity_of_things'].default)}.",
    ),
    "`power`": (
        Power,
        "Rails have the names that the board gives them; which contains which: [measuring.md](measuring.md#sensors).",
    ),
}
HEAD = """# Every key of a target

A target is the device that a bundle is built for: a YAML file in `targets/`, or one of yours, which takes over what it does not
say from the shipped one that it extends. A board whose power rails no shipped target names, with three buckets and
four threads:

```yaml
# my-board.yaml
extends: jetson-orin
name: my-board
summary: the carrier board of our line, rails as its schematic names them
threads: 4
buckets: {count: 3, multiple: 64, most: 3840}
power: {meter: ina3221, total: [VDD_IN]}
```

```sh
edgeprune targets                                # those that are shipped, and which of them run here
edgeprune build --target my-board.yaml           # into out/bundles/street-tiny-my-board
```

A key replaces that of the extended target whole: `buckets: {count: 3}` would have the default `multiple`, not the Jetson's; so
does `power:`. An unknown key, engine or rule is refused with the nearest one. What a bundle was built for is in its manifest
(`edgeprune inspect`); the file stays on the workstation.

Made from the schema that reads them: `python -m edgeprune.lab.target_page docs`.
"""


def page() -> str:
    """The page, as Markdown."""
    names = [path.stem for path in sorted(shipped("targets").glob("*.yaml"))]
    parts = [
        HEAD,
        "## Those that are shipped\n",
        _rows("target", "what it is", {name: load_target(name).summary for name in names}),
    ]
    for title, (model, about) in SECTIONS.items():
        parts.append(f"## {title}\n\n{about}\n\n{table(model.model_json_schema())}\n")
    parts.append("## `engine`, `candidates`\n")
    parts.append(_rows("engine", "shipped targets that take it", {name: _taken_by(name, names) for name in ENGINES}))
    parts.append("## `power.meter`\n\nBeside these `auto`, the first that is there, and `none`.\n")
    parts.append(_rows("meter", "what it reads", {name: what for name, (what, _) in SENSORS.items()}))
    parts.append("## `lint`\n\n`edgeprune lint GRAPH --target NAME` says what a graph has that its target can't run.\n")
    parts.append("| rule | concerns | why | what to do |\n|---|---|---|---|")
    parts += [f"| `{name}` | {rule.concerns} | {rule.reason} | {rule.remedy} |" for name, rule in RULES.items()]
    return "\n".join(parts) + "\n"


def undescribed() -> list[str]:
    """Keys that nothing is said of: the page would have a hole."""
    return undescribed_in({title: model for title, (model, _) in SECTIONS.items()})


def _taken_by(engine: str, names: list[str]) -> str:
    taken = [name for name in names if engine in (load_target(name).engine, *load_target(name).candidates)]
    return ", ".join(f"`{name}`" for name in taken) or "none; `run --engine` takes it"


def _rows(first: str, second: str, said: dict[str, str]) -> str:
    return "\n".join(
        [f"| {first} | {second} |", "|---|---|", *(f"| `{name}` | {what} |" for name, what in said.items()), ""]
    )


def main() -> None:
    """Writes the page into the folder that was named."""
    with write_atomic(Path(sys.argv[1] if len(sys.argv) > 1 else "docs") / PAGE, "documentation") as partial:
        partial.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""`inspect`: what is in a bundle."""

from dataclasses import dataclass
from pathlib import Path

import click

from edgeprune.bundle import Manifest, open_bundle
from edgeprune.bundle.inspect import inspect as inspect_bundle
from edgeprune.cli.options import argument, json_option
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb

BUCKET_COLUMNS = {
    "name": ("bucket", ""),
    "first": ("holds", ",d"),
    "counts": ("tokens per gated block", ""),
    "token_layers": ("tokens over blocks", ",d"),
    "token_share": ("of dense", ".1%"),
}
PARITY_COLUMNS = {
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "tokens": ("tokens", ",d"),
    "max_abs": ("largest logit error", ".2g"),
    "label_agreement": ("equal labels", ".3%"),
    "excluded": ("excluded", ".2%"),
    "selection_agreement": ("equal selection", ".2%"),
}
ENGINE_COLUMNS = {
    "engine": ("engine", ""),
    "p50_ms": ("auto ms", ".1f"),
    "agreement": ("equal labels", ".2%"),
    "reason": ("", ""),
}
PRECISION_COLUMNS = {
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "p50_ms": ("p50 ms", ".1f"),
    "loss_points": ("points under fp32", ".2f"),
    "chosen": ("taken", ""),
}


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    bundle: Path = argument()
    json: bool = json_option()


@verb(
    "inspect",
    InspectOptions,
    ["edgeprune inspect out/bundles/street-tiny-onnx-cpu", "edgeprune inspect out/bundles/street-tiny-onnx-cpu --json"],
)
def inspect(options: InspectOptions) -> None:
    """Show what is in a BUNDLE, after verifying its hashes."""
    opened = open_bundle(options.bundle)
    content = inspect_bundle(opened)
    if options.json:
        show_json(content)
        return
    click.echo(
        f"{content['name']} for {content['target']['name']} ({content['target']['engine']}), policy {content['policy']}, "
        f"input {content['input'][0]}x{content['input'][1]}, labels {content['labels'][0]}x{content['labels'][1]}, "
        f"{content['bytes'] / 1e6:.1f} MB"
    )
    if content["region"]:
        click.echo(f"a region of the frame matters, {content['region']['share']:.1%} of its patches:")
        click.echo("\n".join(content["region"]["rows"]))
    show_table(content["buckets"], BUCKET_COLUMNS)
    if marked := [bucket["name"] for bucket in content["buckets"] if bucket["for_budgets"]]:
        click.echo(f"for budgets alone, a frame asks for none of them: {', '.join(marked)}")
    show_table(parity_rows(opened.manifest), PARITY_COLUMNS)
    if opened.manifest.memory:
        largest = max(content["memory"]["bytes"].values())
        click.echo(
            f"remembers the frames before (a set of {largest / 1e6:.1f} MB, each token anew in {content['memory']['refresh']} "
            "frames); docs/memory.md"
        )
        show_table(parity_rows(opened.with_memory().manifest), PARITY_COLUMNS)
    if content["engine_choice"]:
        show_table(content["engine_choice"], ENGINE_COLUMNS)
    if content["precision_choice"]:
        show_table(content["precision_choice"], PRECISION_COLUMNS)
    click.echo(f"a run takes {content['run']}")
    show_table(content["files"], {"file": ("file", ""), "bytes": ("bytes", ",d")})


def parity_rows(manifest: Manifest) -> list[dict[str, object]]:
    """The parity table with each bucket's tokens, summed over blocks."""
    tokens = {bucket.name: bucket.token_layers for bucket in manifest.buckets}
    return [row.model_dump() | {"tokens": tokens[row.bucket]} for row in manifest.parity]

"""The stages as commands, for the rules of the Snakefile and for use by hand.

Heavy imports are inside the commands, so that `--help` is immediate.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from data.datasets import generated
from data.errors import RunError
from pipeline import data_commands, discovery
from pipeline.click_options import FilledPath
from pipeline.commands import one_line_errors
from pipeline.config import MACHINE, STAGE_KEYS, Config
from pipeline.identity import answering, manifest_request, stage_request, state_of
from pipeline.layout import Layout, shard_name
from pipeline.options import config_options, dataset_option, workers_option

shard_option = click.option(
    "--shard", type=click.IntRange(min=0), required=True, help="Number of the shard, from 0."
)
scheduler_option = click.option(
    "--scheduler", help="Address of a dask.distributed scheduler, used instead of processes."
)


class _OneLineErrors(click.Group):
    """Report errors that a user can correct as one line; `--debug` shows the traceback."""

    def invoke(self, context: click.Context) -> Any:
        with one_line_errors(debug=context.params["debug"]):
            return super().invoke(context)


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--quiet", is_flag=True, help="Show only warnings and errors.")
def main(debug: bool, quiet: bool) -> None:
    """Compute certified eigenvectors of images, stage by stage.

    The stages of a data set are, in order: manifest, fused (or features, laplacian and
    eigenvectors, with intermediate files), masks, index, report. Snakemake runs them all:
    `snakemake pascal_k5`.
    """
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for chatty in ("PIL", "torch"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@main.command()
@click.option(
    "--dataset", type=click.Choice(generated()), required=True, help="Name of the data set."
)
@config_options(*STAGE_KEYS["photos"])
def photos(config: Config, dataset: str) -> None:
    """Write a data set that needs no download: the generated world or scikit-image's samples."""
    from pipeline.stages import photos as stage
    from pipeline.stages.manifest import tree_for

    layout = Layout.of(config)
    with answering(stage_request("photos", config), layout, dataset) as about:
        stage.run(dataset, layout.tree(dataset), Path(layout.made(dataset)), config)
        about["tree"] = state_of(tree_for(dataset, config, layout))


@main.command()
@dataset_option
@config_options(*STAGE_KEYS["manifest"])
def manifest(config: Config, dataset: str) -> None:
    """List the images of a data set and assign them to shards."""
    from pipeline.stages import manifest as stage

    layout = Layout.of(config)
    entries = stage.entries(dataset, config, layout)
    with answering(manifest_request(dataset, entries, layout), layout, dataset):
        stage.run(dataset, entries, layout, Path(layout.manifest(dataset)))


def _shard_job(config: Config, dataset: str, shard: int, kind: str, **more: Any) -> Any:
    from pipeline.stages.manifest import entries_of_shard
    from pipeline.stages.shard import Job

    layout = Layout.of(config)
    return Job(
        dataset=dataset,
        shard=shard,
        entries=entries_of_shard(dataset, config, layout, shard),
        output=Path(layout.shard(dataset, kind, shard)),
        record=Path(layout.record(dataset, kind, shard)),
        **more,
    )


def _shard_command(*keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            scheduler_option,
            workers_option,
            config_options(*keys),
            shard_option,
            dataset_option,
            main.command(),
        ):
            command = option(command)
        return command

    return decorate


@_shard_command(*STAGE_KEYS["fused"], *MACHINE)
def fused(config: Config, dataset: str, shard: int, **processes: Any) -> None:
    """Compute eigenvectors of images, without intermediate files."""
    from pipeline import gpu
    from pipeline.stages import shard as stage

    job = _shard_job(config, dataset, shard, "eigenvectors", **processes)
    with gpu.claimed():
        stage.fused(job, config)


@_shard_command(*STAGE_KEYS["features"], *MACHINE)
def features(config: Config, dataset: str, shard: int, **processes: Any) -> None:
    """Extract features of images."""
    from pipeline import gpu
    from pipeline.stages import shard as stage

    job = _shard_job(config, dataset, shard, "features", **processes)
    with gpu.claimed():
        stage.features(job, config)


@_shard_command(*STAGE_KEYS["laplacian"])
def laplacian(config: Config, dataset: str, shard: int, **processes: Any) -> None:
    """Turn features into affinities, the stored form of the Laplacian."""
    from pipeline.stages import shard as stage

    job = _shard_job(config, dataset, shard, "laplacian", **processes)
    stage.laplacian(job, config, Path(Layout.of(config).shard(dataset, "features", shard)))


@_shard_command(*STAGE_KEYS["eigenvectors"])
def eigenvectors(config: Config, dataset: str, shard: int, **processes: Any) -> None:
    """Compute eigenvectors of affinities."""
    from pipeline.stages import shard as stage

    layout = Layout.of(config)
    earlier = [Path(layout.record(dataset, s, shard)) for s in ("features", "laplacian")]
    job = _shard_job(config, dataset, shard, "eigenvectors", earlier=earlier, **processes)
    stage.eigenvectors(job, config, Path(layout.shard(dataset, "laplacian", shard)))


@main.command()
@dataset_option
@shard_option
@config_options(*STAGE_KEYS["masks"])
@workers_option
def masks(config: Config, dataset: str, shard: int, workers: int) -> None:
    """Turn eigenvectors into masks (PNG) with the published names."""
    from pipeline import manifest as listed
    from pipeline.stages import masks as stage
    from pipeline.stages.manifest import entries_of_shard

    layout = Layout.of(config)
    request, number = stage_request("masks", config), shard_name(shard)
    with answering(request, layout, dataset, shard=number) as about:
        stage.run(
            Path(layout.shard(dataset, "eigenvectors", shard)),
            listed.paths(entries_of_shard(dataset, config, layout, shard)),
            shard,
            layout.masks(dataset),
            Path(layout.mask_list(dataset, shard)),
            config,
            workers=workers,
        )
        results, folder = Path(layout.results_root) / dataset, layout.masks(dataset)
        about["inside"] = folder.is_relative_to(results)  # then it moves with the results
        about["folder"] = str(folder.relative_to(results) if about["inside"] else folder)


@main.command()
@dataset_option
@config_options(*STAGE_KEYS["index"])
def index(config: Config, dataset: str) -> None:
    """Finalise a data set: check that every image is accounted for and write the manifest."""
    from pipeline import manifest as listed
    from pipeline.stages import index as stage

    layout = Layout.of(config)
    shards = [shard_name(n) for n in listed.shards(listed.read(layout.manifest(dataset)))]
    with answering(stage_request("index", config), layout, dataset, shards=shards):
        stage.run(
            Path(layout.manifest(dataset)),
            lambda shard: Path(layout.shard(dataset, "eigenvectors", shard)),
            lambda shard: Path(layout.record(dataset, "eigenvectors", shard)),
            quarantine=Path(layout.quarantine(dataset)),
            provenance=Path(layout.provenance(dataset)),
            strict=config.strict,
            masks=layout.masks(dataset),
            mask_lists=Path(layout.mask_list(dataset, 0)).parent,
        )


for command in (*discovery.COMMANDS, *data_commands.COMMANDS):
    main.add_command(command)


@main.command()
@dataset_option
@config_options(*STAGE_KEYS["report"])
def report(config: Config, dataset: str) -> None:
    """Write an HTML page: images, eigenvectors, masks, residuals, quarantine, configuration."""
    from pipeline import manifest as listed
    from pipeline import records
    from pipeline.stages import report as stage

    layout = Layout.of(config)
    with answering(stage_request("report", config), layout, dataset):
        entries = listed.read(layout.manifest(dataset))
        numbers = listed.shards(entries)
        stage.run(
            dataset,
            entries,
            Path(layout.index(dataset)).parent,
            records.read_all(layout.record(dataset, "eigenvectors", number) for number in numbers),
            Path(layout.quarantine(dataset)),
            Path(layout.provenance(dataset)),
            layout.masks(dataset),
            Path(layout.report(dataset)),
            config,
        )


@main.command()
@click.argument("shards", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--images",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the images, if they were moved since the run; can be repeated.",
)
@click.option(
    "--sample", type=click.IntRange(min=1), default=20, show_default=True, help="Number of images."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the sample.")
@click.option("--weights", help="Weight file of the extractor, if it was moved.")
def verify(
    shards: Path, images: tuple[Path, ...], sample: int, seed: int, weights: str | None
) -> None:
    """Recompute the residuals of a random sample of the images in the folder SHARDS."""
    from pipeline.stages import verify as stage

    failed = count = 0
    worst = 0.0
    for checked in stage.run(shards, images, sample=sample, seed=seed, weights=weights):
        count += 1
        failed += not checked.passed
        if checked.verdict is None:
            click.echo(f"{checked.id}  FAIL  {checked.note}")
            continue
        verdict = checked.verdict
        worst = max(worst, verdict.residual)
        click.echo(
            f"{checked.id}  residual {verdict.residual:.2e}, stored {verdict.stored:.2e}, "
            f"off orthonormal by {verdict.orthonormality:.1e}  "
            f"{'pass' if checked.passed else 'FAIL'}"
        )
    click.echo(f"{count - failed} of {count} images passed, largest residual {worst:.2e}")
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--full", is_flag=True, help="Read every byte of the shards and every mask.")
@click.option(
    "--masks", type=FilledPath(path_type=Path), help="Folder of the masks, if they were moved."
)
@click.option(
    "--further/--no-further", default=True, help="Also audit objects, segments, clusters, names."
)
@click.option("--out", type=FilledPath(path_type=Path), help="Write the findings to this file.")
def audit(results: Path, full: bool, masks: Path | None, further: bool, out: Path | None) -> None:
    """Check that a results folder, such as results/pascal, is complete; if not, exit with 1."""
    from pipeline.audit import audit as run

    findings = run(results, full=full, masks=masks, further=further)
    for finding in findings:
        click.echo(f"{finding.check:<14} {finding.count:>8}  {len(finding.problems) or 'ok'}")
        for problem in finding.problems[:5]:
            click.echo(f"    {problem}")
    if sum(len(finding.problems) for finding in findings):
        raise RunError(f"{results}: the audit failed; repeat the command that made these results")
    if out is not None:
        _write_audit(results, out, {"full": full, "checks": {f.check: f.count for f in findings}})


def _write_audit(results: Path, out: Path, content: dict[str, Any]) -> None:
    from data.sealed import write_json
    from pipeline import manifest as listed

    layout = Layout("", str(results.parent), 0)
    shards = [shard_name(n) for n in listed.shards(listed.read(layout.manifest(results.name)))]
    with answering(stage_request("audit", Config()), layout, results.name, shards=shards):
        write_json(out, content)


@main.command("config")
@click.option("--markdown", is_flag=True, help="Write the table of docs/configuration.md.")
@click.option("--schema", is_flag=True, help="Write the JSON schema of all keys.")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
def show_config(markdown: bool, schema: bool, settings: tuple[str, ...]) -> None:
    """Check settings and print the resolved configuration as YAML."""
    import yaml

    from pipeline import config as configuration

    if markdown:
        click.echo(configuration.markdown(), nl=False)
        return
    if schema:
        click.echo(json.dumps(configuration.json_schema(), indent=2))
        return
    values = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"expected KEY=VALUE, found {setting!r}")
        values[key] = value
    resolved = configuration.resolve(values).flat(*configuration.KEYS)
    click.echo(yaml.safe_dump(resolved, sort_keys=False), nl=False)

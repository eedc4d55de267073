"""`reelmill plan`: times every stage on a few videos here, and predicts what the whole manifest takes on a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from jobs.entry import run_verb
from jobs.plan_display import print_forecast
from jobs.prepare import plan_of
from pipeline.config import load_config, placed_in
from pipeline.forecast.forecast import EFFICIENCY, forecast, probe
from pipeline.forecast.machine import gpus_here, machine_name
from pipeline.lease import hold
from pipeline.say import say
from pipeline.sources import build_manifest, index_source, source_json
from pipeline.store import Store
from pipeline.threads import num_cores
from pipeline.units import MANIFEST, manifest_source, read_manifest
from schemas.config import Config
from schemas.errors import ReelmillError, UsageError
from schemas.forecast import PLAN_FILE, Cluster, Forecast


def main(
    config: Annotated[Path, typer.Argument(help="a config.yaml")],
    videos: Annotated[int, typer.Option(min=1, help="how many videos to look at")] = 12,
    minutes: Annotated[float, typer.Option(min=0, help="about how long to time them, all stages together")] = 5,
    nodes: Annotated[int, typer.Option(min=1, help="the cluster: its nodes")] = 1,
    cores: Annotated[int | None, typer.Option(min=1, help="cores of each node; default: this machine's")] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs of each node; default: this machine's; 0: features on CPUs")
    ] = None,
    price: Annotated[float | None, typer.Option(min=0, help="of an hour of a node")] = None,
    gpu_nodes: Annotated[int, typer.Option(min=0, help="nodes beside --nodes, which then have the GPUs")] = 0,
    gpu_price: Annotated[float | None, typer.Option(min=0, help="of an hour of a GPU node")] = None,
    gpu_rate: Annotated[
        list[str] | None, typer.Option(help="NAME=CLIPS_PER_S of a features product on one GPU, where none is here")
    ] = None,
    efficiency: Annotated[
        float, typer.Option(min=0.05, max=1, help="what a busy resource does of what it could")
    ] = EFFICIENCY,
    as_json: Annotated[bool, typer.Option("--json", help="print the prediction as JSON")] = False,
) -> None:
    """Predict hours, GPU-hours, bytes, units and cost, before anything is run."""
    loaded = load_config(config)
    rates = _rates(gpu_rate or [], loaded)
    if gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for all that is timed
    here = gpus_here()
    num_gpus = len(here) if gpus is None else gpus
    cluster = Cluster(
        nodes=nodes, cores=cores or num_cores(), gpus=num_gpus, price=price, gpu_nodes=gpu_nodes, gpu_price=gpu_price
    )
    _check(cluster, rates=rates, has_gpu=bool(here))
    store = Store(loaded.dataset)
    manifest = manifest_for(loaded, store)
    with placed_in(config):
        without_heads = loaded.model_copy(update={"heads": {}})  # their annotations need not be there yet
        plan = plan_of(without_heads, manifest)
    probes = probe(
        loaded,
        plan,
        manifest,
        num_videos=videos,
        budget_s=minutes * 60,
        has_gpu=bool(here),
        rates=rates,
        tell=say,
    )
    name = machine_name(here)
    found = forecast(probes, loaded, manifest, plan.units, cluster, machine=name, rates=rates, efficiency=efficiency)
    keep(store, found)
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        print_forecast(found, loaded.dataset)


def keep(store: Store, found: Forecast) -> None:
    """Leave the prediction in the dataset, where `status` lays it beside what a run has spent."""
    store.put(PLAN_FILE, (found.model_dump_json(indent=1) + "\n").encode())


def manifest_for(config: Config, store: Store) -> pa.Table:
    """The manifest. Where there is none it is made, which is the first thing that a run does, too; one of another
    source stays as it stands, since what was made from it is in this dataset."""
    standing = manifest_source(store)
    if standing == source_json(config.source).decode():
        say(f"using {store.uri}/{MANIFEST} as it stands (`reelmill index` looks at the source again)")
        table = read_manifest(store)
    elif standing is None:
        with hold(store, what="reelmill plan"):  # nobody else is to begin with another manifest at this moment
            say(f"indexed {build_manifest(store, config.source)}")
        table = read_manifest(store)
    else:
        say(f"{store.uri}/{MANIFEST} is of another source and stays: this plan indexes its source by itself")
        table = index_source(config.source).table
    if not table.num_rows:
        raise ReelmillError(f"{store.uri}/{MANIFEST} has no rows: there is nothing to plan; index a source with videos")
    return table


def _rates(words: list[str], config: Config) -> dict[str, float]:
    """features product -> clips a second on one GPU."""
    rates = {}
    for word in words:
        name, _, number = word.partition("=")
        name = name.removeprefix("features/")
        if name not in config.features:
            have = ", ".join(config.features) or "none"
            raise UsageError(f"--gpu-rate {word}: this config has no features {name!r}; it has {have}")
        try:
            rates[name] = float(number)
        except ValueError:
            rates[name] = 0.0
        if not 0 < rates[name] < float("inf"):
            raise UsageError(f"--gpu-rate {word}: want NAME=CLIPS_PER_S, such as {name}=900")
    return rates


def _check(cluster: Cluster, *, rates: dict[str, float], has_gpu: bool) -> None:
    """Raises UsageError for options that contradict each other."""
    if cluster.gpu_nodes and not cluster.gpus:
        raise UsageError("--gpu-nodes: say with --gpus how many GPUs each of them has")
    if cluster.gpu_price is not None and not cluster.gpu_nodes:
        raise UsageError("--gpu-price goes with --gpu-nodes; where all nodes are alike, --price is of a whole node")
    if cluster.gpu_nodes and (cluster.price is None) != (cluster.gpu_price is None):
        raise UsageError("give --price and --gpu-price both, or neither: a cost of half the cluster is none")
    if rates and not cluster.gpus:
        raise UsageError("--gpu-rate: the cluster has no GPU; say with --gpus how many each node has")
    if rates and has_gpu:
        raise UsageError("--gpu-rate: this machine has a GPU, and features are timed on it; leave the rate out")


if __name__ == "__main__":
    run_verb(main)

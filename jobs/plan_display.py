"""A prediction as a person reads it, and what became of it."""

from __future__ import annotations

import sys

from rich import box
from rich.console import Console
from rich.table import Table

from jobs.quantities import PLAIN, SECONDS, SIZES, TIMES, WORK, Scale, digits, show, spread
from pipeline.forecast.compare import Comparison, Pair
from schemas.forecast import Cluster, Forecast, ProductForecast, Range

WIDTH = 100  # columns, where the output is no terminal


def cluster_words(cluster: Cluster) -> str:
    """`8 nodes of 32 cores and 4 GPUs`."""
    nodes = f"{_several(cluster.nodes, 'node')} of {_several(cluster.cores, 'core')}"
    gpus = _several(cluster.gpus, "GPU")
    if cluster.gpu_nodes:
        return f"{nodes} and {cluster.gpu_nodes} more with {gpus} each"
    return f"{nodes} and {gpus}" if cluster.gpus else nodes


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def print_forecast(found: Forecast, dataset: str) -> None:
    console = plan_console()
    console.print(
        f"{dataset}: {found.num_videos:,} videos, {show(found.source_bytes, SIZES)}, {found.num_units:,} units\n"
        f"timed on {found.machine}: {found.num_probed} videos in {show(found.probing_s, TIMES)}"
        + (f", of which {found.num_probes_failed} can't be used" if found.num_probes_failed else ""),
        markup=False,
    )
    console.print(_products(found))
    console.print(_sums(found), markup=False)
    console.print(_more_nodes(found))
    console.print("It is assumed that")
    for line in found.assumptions:
        console.print(f"- {line};", markup=False)
    console.print(f"- a range holds 80 % of what other {found.num_probed} videos would have led to.", markup=False)


def plan_console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def _products(found: Forecast) -> Table:
    table = Table(box=box.SIMPLE)
    for column in ("product", "a video", "the whole", "items", "stored", "goes by"):
        table.add_column(column, justify="left" if column in ("product", "goes by") else "right")
    for product in found.products:
        each = _work(product).value / found.num_videos
        table.add_row(
            product.product,
            f"{each:.3g} {_resource(product)}-s",
            spread(_work(product), WORK, f"{_resource(product)}-"),
            f"{product.items.value:,.0f}",
            spread(product.bytes, SIZES),
            product.grows_with if product.source == "measured" else "rate given",
        )
    return table


def _resource(product: ProductForecast) -> str:
    return "GPU" if product.device == "gpu" else "core"


def _work(product: ProductForecast) -> Range:
    """Seconds of a core or a GPU."""
    return product.worker_s.times(product.cores_per_worker or 1)


def _sums(found: Forecast) -> str:
    core, gpu = (digits(about.value / 3600) for about in (found.core_s, found.gpu_s))
    lines = [
        f"On {cluster_words(found.cluster)}: {spread(found.wall_s, TIMES)}"
        + (f", cost {spread(found.cost, PLAIN)}" if found.cost else ""),
        f"{core} core-hours, {gpu} GPU-hours; {spread(found.bytes, SIZES)} in {found.objects:,} files "
        f"({found.puts:,.0f} requests to write them to an object store)",
        f"What decides: {found.bottleneck}.",
    ]
    return "\n".join(lines)


def _more_nodes(found: Forecast) -> Table:
    table = Table(box=box.SIMPLE)
    for column in ("nodes", "time", "cost") if found.cost else ("nodes", "time"):
        table.add_column(column, justify="right")
    for larger in found.scaled:
        nodes = f"{larger.nodes} + {larger.gpu_nodes}" if larger.gpu_nodes else str(larger.nodes)
        row = [nodes, spread(larger.wall_s, TIMES)]
        table.add_row(*row, *([spread(larger.cost, PLAIN)] if larger.cost else []))
    return table


# ---------------------------------------------------------------- afterwards


def print_comparison(found: Comparison) -> None:
    """Predicted, actual, and the one over the other."""
    console = plan_console()
    columns, rows = comparison_cells(found)
    table = Table(title="planned : actual", title_justify="left", box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="left" if column == "product" else "right")
    for row in rows:
        table.add_row(*row)
    if rows:
        console.print(table)
    for line in comparison_lines(found):
        console.print(line, markup=False)


def comparison_cells(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """The columns of the table of planned and actual, and a row for each product."""
    # workers on CPUs wait for each other: only one that holds a GPU can be judged by its time
    on_gpus = found.num_gpus > 0 and any(product.device == "gpu" for product in found.products)
    rows = []
    for product in found.products:
        of_gpu = _pair(product.worker_s, SECONDS) if product.device == "gpu" else "–"
        rows.append(
            [
                product.product,
                f"{product.videos:,}",
                _pair(product.cpu_s, SECONDS),
                *([of_gpu] if on_gpus else []),
                _pair(product.bytes, SIZES),
            ]
        )
    gpu_columns = ["GPU-s a video"] if on_gpus else []
    return ["product", "videos", "CPU-s a video", *gpu_columns, "stored a video"], rows


def comparison_lines(found: Comparison) -> list[str]:
    """The time of all, and which products can't be compared."""
    lines = []
    if found.wall_s is not None:
        where = cluster_words(Cluster(nodes=1, cores=found.num_cores, gpus=found.num_gpus)).removeprefix("1 node of ")
        lines.append(f"time on {where}, from the first unit to the last: {_pair(found.wall_s, TIMES)}")
    return lines + [
        f"{path} was not planned with these settings: `reelmill plan` predicts it anew" for path in found.others
    ]


def _pair(pair: Pair, scale: Scale) -> str:
    ratio = "" if pair.ratio is None else f" = {pair.ratio:.2f}"
    return f"{show(pair.predicted, scale)} : {show(pair.actual, scale)}{ratio}"

"""A small real run, watched: its record, its sentence, and its numbers at the endpoint that Prometheus would ask."""

import os
import re
import time
import urllib.request
from pathlib import Path

import pytest
import ray

from jobs.prepare import Prepared, prepare
from jobs.work_display import title
from pipeline import runner, runs
from pipeline.runner.metrics import Metrics
from pipeline.survey import survey
from pipeline.synth import SynthSpec, make_dataset
from schemas.config import Config
from schemas.news import Began, GaveUp, News, Progress
from schemas.work import RunRecord, UnitWork

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

NUM_VIDEOS, REPORT_S = 8, 1
REPORT_SWITCH = "RAY_metrics_report_interval_ms"  # Ray reads it in this spelling


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Prepared:
    folder = tmp_path_factory.mktemp("observed")
    make_dataset(folder, SynthSpec(num_classes=2, videos_per_class=NUM_VIDEOS // 2, duration_s=1.0))
    videos = folder / "trimmed/videos"
    broken = next(videos.rglob("*.mp4"))
    broken.write_bytes(b"no video")
    document = {
        "dataset": str(folder / "out"),
        "source": {"kind": "directory", "videos": str(videos)},
        "units": {"videos_per_unit": 2},
        "clips": {"a": {"frames": 4, "fps": 8, "resize": [32, 32]}},
        "features": {"f": {"from": "clips/a", "model": "small_rgb", "weights": "random:0"}},
    }
    return prepare(Config.model_validate(document))


@pytest.fixture(scope="module")
def observed(work) -> RunRecord:
    """The record of a whole run, with Ray still up."""
    os.environ[REPORT_SWITCH] = str(1000 * REPORT_S)
    heard: list[News] = []
    with runner.cluster(workers=2):
        with runner.watching(
            work.plan, work.store, pending=work.plan.units, config_sha256="c", listener=heard.append
        ) as watch:
            errors = runner.run_plan(
                work.plan,
                work.store,
                limits=work.config.limits,
                pending=work.plan.units,
                on_progress=watch.hear,
            )
            assert errors == []
            assert runs.last(runs.records(work.store)).state == "running"
        assert sum(isinstance(news, Progress) for news in heard) == 2 * len(work.plan.units)
        yield watch.last
    del os.environ[REPORT_SWITCH]


def test_the_record_adds_up(work, observed) -> None:
    assert observed == runs.last(runs.records(work.store))
    assert (observed.run, observed.state, observed.units_pending) == (1, "done", 4)
    assert list(observed.products) == ["clips/a", "features/f"]
    states = {state.path: state for state in survey(work.store, work.plan)}
    for path, made in observed.products.items():
        assert made.fingerprint == states[path].fingerprint
        assert (made.units, made.videos, made.items) == (4, NUM_VIDEOS, states[path].items)
        assert made.bytes_out == states[path].bytes
        parts_s = made.busy_s + made.opening_s + made.idle_s + made.reading_s + made.writing_s
        assert made.held_s == pytest.approx(parts_s)
        assert 0 < made.busy_s <= made.held_s
        assert 0 < made.wall_s <= observed.wall_s
        assert made.cpu_s > 0
        assert made.device_s is None  # no GPU, no number
        assert made.failed_rows == 1
    clips, features = observed.products.values()
    assert clips.frames_decoded >= clips.frames_used > 0
    assert clips.bytes_in > 0
    assert sum(clips.reasons.values()) == 1
    assert features.reasons == {"upstream": 1}
    assert clips.source_s == pytest.approx(NUM_VIDEOS - 1, abs=0.5)  # a second each, but for the one that is none
    assert clips.pool.workers is None
    assert features.pool.holds
    assert observed.cores_s == pytest.approx(2 * observed.wall_s, rel=0.2)
    assert {"ray", "av", "torch"} <= set(observed.versions)


def test_the_record_holds_no_place_and_no_setting(work, observed) -> None:
    text = Path(work.store.path(runs.path_of(1))).read_text()
    assert str(work.config.source.videos) not in text
    assert work.store.uri not in text


def test_it_has_a_title(observed) -> None:
    assert re.fullmatch(r"run 1: .* on 2 cores \(\d+% busy\)", title(observed))


def test_prometheus_finds_the_numbers(work, observed) -> None:
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    found = scraped(url, lambda series: sum_of(series, "reelmill_units_total") == 8)
    clips = observed.products["clips/a"]
    assert sum_of(found, "reelmill_units_total", product="clips/a") == 4
    assert sum_of(found, "reelmill_videos_total", product="clips/a", status="failed") == 1
    assert sum_of(found, "reelmill_videos_total", product="clips/a", status="ok") == NUM_VIDEOS - 1
    assert sum_of(found, "reelmill_failures_total", product="features/f", reason="upstream") == 1
    assert sum_of(found, "reelmill_frames_decoded_total") == clips.frames_decoded
    assert sum_of(found, "reelmill_bytes_written_total", product="clips/a") == clips.bytes_out
    busy_s = sum_of(found, "reelmill_busy_seconds_total", product="clips/a", node=node["NodeID"][:8])
    assert busy_s == pytest.approx(clips.busy_s)
    assert sum_of(found, "reelmill_units_running") == 0
    assert sum_of(found, "reelmill_unit_seconds_count") == 8
    assert not any(name == "reelmill_gpu_seconds_total" for name, _, _ in found)


def test_another_run_of_this_process_counts_on(observed) -> None:
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    work = UnitWork("clips/other", 0, "n", 1, wall_s=2.0, busy_s=2.0, reading_s=0.0, writing_s=0.0)
    metrics = Metrics()
    metrics(Began("clips/other", 0, "n"))
    metrics(Began("clips/other", 0, "n"))
    metrics(Progress("clips/other", 0, 1, 0, work))
    metrics(Began("clips/other", 1, "n"))
    metrics(GaveUp("clips/other", 1))
    of = {"product": "clips/other"}
    found = scraped(url, lambda series: sum_of(series, "reelmill_units_given_up_total", **of) == 1)
    assert sum_of(found, "reelmill_units_total", **of) == 1
    assert sum_of(found, "reelmill_units_begun_again_total", **of) == 1
    assert sum_of(found, "reelmill_units_total", product="clips/a") == 4


Series = list[tuple[str, dict[str, str], float]]


def sum_of(series: Series, name: str, **labels: str) -> float:
    return sum(value for found, of, value in series if found == name and labels.items() <= of.items())


def scraped(url: str, is_complete) -> Series:
    """What the endpoint says once it is complete; Ray passes values on every REPORT_S."""
    series: Series = []
    for _ in range(120):
        with urllib.request.urlopen(url, timeout=30) as answer:
            series = parsed(answer.read().decode())
        if is_complete(series):
            return series
        time.sleep(0.5)
    return series


def parsed(text: str) -> Series:
    lines = (re.fullmatch(r"ray_(reelmill_\w+)\{(.*)\} (\S+)", line) for line in text.splitlines())
    return [
        (line[1], dict(re.findall(r'(\w+)="([^"]*)"', line[2])), float(line[3])) for line in lines if line is not None
    ]

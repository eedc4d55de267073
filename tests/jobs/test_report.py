"""`reelmill report` as a user types it: of a dataset that is really made, half made, killed, and hostile."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import lease, runs
from pipeline.config import load_config
from pipeline.process import Process
from pipeline.store import Store
from pipeline.synth import SynthSpec, make_dataset
from schemas.work import ProductWork, RunRecord

SCRIPT = "<script>alert(1)</script>"
LABEL = """"><img src=x onerror='alert(1)'>"""
QUOTES = """a"onerror='b"""
CONFIG = """
dataset: {out}
source: {{kind: directory, videos: {videos}}}
clips:
  small: {{frames: 8, fps: 8, resize: [32, 40]}}
flow:
  tvl1: {{clips: small, backend: opencv, bound: 1, params: {{num_scales: 2, num_warps: 2}}}}
features:
  rgb: {{from: clips/small, model: small_rgb, weights: "random:0"}}
"""


class Elements(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, make_products: Callable[[Path], None]) -> Path:
    """Clips, flow and features of three short videos, one of them broken, whose names and labels are hostile."""
    folder = tmp_path_factory.mktemp("report")
    make_dataset(folder / "made", SynthSpec(num_classes=1, videos_per_class=2, duration_s=2.0))
    first, second = sorted((folder / "made").rglob("*.mp4"))
    (folder / "videos" / LABEL).mkdir(parents=True)
    for number, video in enumerate((first, second)):
        video.rename(folder / "videos" / LABEL / f"{number}.mp4")
    (folder / "videos" / LABEL / "broken.mp4").write_bytes(b"no video")
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(out=folder / "out", videos=folder / "videos"))
    make_products(path)
    for index in (folder / "out/clips/small/_index").iterdir():  # an index of our own makes no such ids
        table = pq.read_table(index)
        ids = pa.array([QUOTES] * table.num_rows, pa.string())
        pq.write_table(table.set_column(table.schema.get_field_index("video_id"), "video_id", ids), index)
    return path


@pytest.fixture
def page(reelmill, tmp_path: Path) -> Callable[[object], Elements]:
    def call(target: object) -> Elements:
        out = tmp_path / "page.html"
        ended = reelmill("report", target, "--out", out)
        assert ended.returncode == 0, ended.stderr
        assert f"wrote {out}" in ended.stderr
        assert [path.name for path in tmp_path.glob(".page*")] == []
        return Elements(out.read_text())

    return call


def test_all_that_a_person_wants_of_a_finished_dataset(page, config: Path) -> None:
    found = page(load_config(config).dataset)
    assert "Complete" in found.text
    assert "1 row failed" in found.text
    assert re.search(r"\w+: 1 row\s", found.text)
    assert "/broken.mp4" in found.text
    assert "random:0, as asked" in found.text
    assert "No run has left a record." in found.text
    pictures = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(pictures) == 2  # clips and flow
    assert all(str(picture["src"]).startswith("data:image/") and picture["alt"] for picture in pictures)
    assert "looks too small" in found.text  # the flow's bound


def test_names_and_labels_are_text_and_nothing_else(page, config: Path) -> None:
    found = page(config)
    assert LABEL in found.text
    assert QUOTES in found.text
    (alt, _) = (str(attributes["alt"]) for tag, attributes in found.tags if tag == "img")
    assert f"row 1: {LABEL}, {QUOTES}, 0.00–1.00 s" in alt
    allowed = {"src", "alt", "width", "height"}
    assert all(set(attributes) <= allowed for tag, attributes in found.tags if tag == "img")
    assert not {tag for tag, _ in found.tags} & {"script", "iframe", "object", "link", "base", "form"}
    fetched = [attributes.get(name) for _, attributes in found.tags for name in ("src", "href") if attributes.get(name)]
    assert all(str(place).startswith(("data:image/", "#")) for place in fetched)


def test_a_label_that_is_a_script(page, head_config: Path) -> None:
    store = Store(load_config(head_config).dataset)
    metrics = {"evaluated_on": "test", "num_items": {"test": 3}, "headline": {SCRIPT: 0.5}, "protocol": SCRIPT}
    store.put("heads/actions/metrics.json", json.dumps(metrics).encode())
    found = page(head_config)
    assert found.text.count(SCRIPT) == 2
    assert "script" not in {tag for tag, _ in found.tags}


def test_half_made_and_killed(page, head_config: Path) -> None:
    store = Store(load_config(head_config).dataset)
    dead = Process("another-host", "another boot", 1, 1)
    store.put(lease.LEASE, lease.Holder("t", 3, "reelmill run mine.yaml", "yesterday", dead).to_json())
    work = ProductWork(units=3, videos=9, wall_s=100.0, held_s=200.0, busy_s=190.0, idle_s=10.0)
    for number in (1, 2):
        made = RunRecord(run=number, state="running", began="", wall_s=9e1, cores_s=2e2, products={"clips/rgb16": work})
        runs.write(store, made)
    found = page(head_config)
    assert "Not complete" in found.text
    assert re.search(r"clips/rgb16: (\d+) of \1 units have to be made\.", found.text)
    assert "`reelmill run mine.yaml` on another-host is at it, since yesterday, unless it died." in found.text
    assert "run 2, not ended: 1 min 30 s" in found.text
    assert "clips/rgb16 is the bottleneck" in found.text
    assert "all 2 runs: 3 min 0 s" in found.text
    assert "Nothing of it was made so far." in found.text
    assert "Not trained so far." in found.text


def test_a_damaged_shard_is_a_sentence(page, config: Path, tmp_path: Path) -> None:
    """Where no preview stands, the sheets are drawn: here from a shard that was cut."""
    dataset = Path(load_config(config).dataset)
    shards = sorted(dataset.glob("clips/small/*.tar"))
    whole = [shard.read_bytes() for shard in shards]
    for shard in shards:
        shard.write_bytes(shard.read_bytes()[:700])
    try:
        found = page(dataset)
    finally:
        for shard, data in zip(shards, whole, strict=True):
            shard.write_bytes(data)
    assert found.text.count("No picture: ") == 2


def test_a_damaged_index_is_a_sentence(page, config: Path) -> None:
    indices = {path: path.read_bytes() for path in Path(load_config(config).dataset).glob("clips/small/_index/*")}
    for path in indices:
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    try:
        assert page(config).text.count("No picture: ") == 1
    finally:
        for path, data in indices.items():
            path.write_bytes(data)


def test_the_preview_that_stands_is_taken(page, config: Path) -> None:
    store = Store(load_config(config).dataset)
    store.put("clips/small/_preview.png", b"no picture")
    try:
        assert page(config).text.count("No picture: it is no picture") == 1
    finally:
        store.delete("clips/small/_preview.png")


def test_it_is_written_anew_whole_and_where_it_is_said(reelmill, config: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.html").write_text("before")
    assert reelmill("report", config).returncode == 0
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("out", ["s3://bucket/report.html", "."])
def test_places_that_are_no_file_here(reelmill, config: Path, out: str) -> None:
    ended = reelmill("report", config, "--out", out)
    assert ended.returncode == 2
    assert f"--out {out}" in ended.stderr


def test_what_is_no_dataset(reelmill, tmp_path: Path) -> None:
    assert reelmill("report", tmp_path, "--out", tmp_path / "page.html").returncode == 2
    assert not (tmp_path / "page.html").exists()


def test_nothing_in_the_dataset_is_touched(page, config: Path) -> None:
    dataset = Path(load_config(config).dataset)
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    page(config)
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


def test_a_product_of_other_settings_says_so(page, config: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(config.read_text().replace("fps: 8", "fps: 4"))
    found = page(changed)
    assert "Not complete" in found.text
    assert "what stands is of other settings or inputs" in found.text

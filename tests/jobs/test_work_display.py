"""The summary of a run as a person sees it."""

import io
import json

import pytest
from rich.console import Console

from jobs.work_display import print_work, title, work_json
from schemas.work import NodeRecord, ProductWork, RunRecord

CLIPS = ProductWork(
    units=12,
    videos=768,
    source_s=7680.0,
    wall_s=240.0,
    held_s=480.0,
    busy_s=460.0,
    idle_s=4.0,
    reading_s=6.0,
    writing_s=10.0,
    cpu_s=450.0,
    bytes_in=3_210_000_000,
    bytes_out=456_000_000,
    frames_decoded=190_000,
    frames_used=10_000,
    reasons={"truncated": 5, "missing": 1, "a": 1, "b": 1, "c": 1},
    retries=1,
)
FEATURES = ProductWork(
    units=12, videos=768, wall_s=250.0, held_s=250.0, busy_s=90.0, idle_s=155.0, reading_s=5.0, cpu_s=40.0, given_up=2
)


def record(**changes) -> RunRecord:
    given = {
        "run": 3,
        "state": "done",
        "began": "",
        "wall_s": 252.0,
        "cores_s": 504.0,
        "products": {"clips/rgb16": CLIPS, "features/i3d_rgb_crops": FEATURES, "flow/idle": ProductWork()},
    }
    return RunRecord(**{**given, **changes})


def shown(run: RunRecord) -> str:
    file = io.StringIO()
    print_work(Console(file=file, width=100, highlight=False), run)
    return file.getvalue()


def test_the_table_fits_a_hundred_columns() -> None:
    gpu = FEATURES.model_copy(update={"device_s": 100.0})
    text = shown(record(products={"clips/rgb16": CLIPS, "features/i3d_rgb_crops": gpu}, gpus_s=252.0))
    table = text[: text.index(" clips/rgb16: ")]
    assert max(len(line) for line in table.splitlines()) <= 100
    assert "…" not in table
    assert "GPU" in table


def test_it_says_what_the_time_went_into() -> None:
    text = shown(record())
    assert "run 3: 4 min 12 s on 2 cores (97% busy)" in text
    clips = next(line for line in text.splitlines() if line.strip().startswith("clips/rgb16 "))
    assert clips.split() == ["clips/rgb16", "96%", "2%", "2%", "0%", "3.2", "32×", "3.2", "GB", "456", "MB", "19.0×"]
    assert "GPU" not in text  # nobody measured one
    assert "flow/idle" not in text
    assert "clips/rgb16: 9 rows failed or partial (truncated 5, a 1, b 1, c 1, …); 1 unit was begun again" in text
    assert "2 units could not be made" in text
    assert text.rstrip().splitlines()[-2].strip().startswith("clips/rgb16 is the bottleneck")


def test_a_run_that_made_nothing_shows_nothing() -> None:
    assert shown(record(products={})) == shown(record(products={"clips/a": ProductWork()})) == ""


@pytest.mark.parametrize(
    ("state", "words"), [("running", "not ended"), ("interrupted", "interrupted"), ("done", "run 3:")]
)
def test_the_title_says_how_it_ended(state, words) -> None:
    assert words in title(record(state=state))


def test_the_title_counts_nodes_and_gpus() -> None:
    nodes = tuple(NodeRecord(name=str(n), address="10.0.0.1", cpus=1, gpus=1) for n in range(2))
    assert title(record(nodes=nodes, gpus_s=504.0)).endswith("on 2 cores (97% busy), 2 GPUs, 2 nodes")


def test_json_has_what_follows_from_the_record() -> None:
    document = json.loads(json.dumps(work_json(record())))
    assert document["products"]["clips/rgb16"]["shares"]["busy"] == pytest.approx(460 / 480)
    assert document["products"]["clips/rgb16"]["amplification"] == 19
    assert document["bottleneck"]["product"] == "clips/rgb16"
    assert document["gpu_share"] is None

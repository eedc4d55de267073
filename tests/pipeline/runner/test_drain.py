"""The runner on a real local Ray, with the real clips stage."""

import os
import signal
import threading
import time

import pytest
from processes import command, descendants, parent

from jobs.prepare import Prepared, prepare
from pipeline import runner
from pipeline.survey import survey
from pipeline.synth import SynthSpec, make_dataset
from schemas.config import Config
from schemas.errors import ReelmillError
from schemas.news import News, Progress

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make_dataset(folder, SynthSpec(num_classes=2, videos_per_class=4, duration_s=1.0))
    return folder / "trimmed/videos"


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    with runner.cluster(workers=2):
        yield


def prepared(videos, out, **changes) -> Prepared:
    document = {
        "dataset": str(out),
        "source": {"kind": "directory", "videos": str(videos)},
        "units": {"videos_per_unit": 1},
        "clips": {"a": {"frames": 4, "fps": 8, "resize": [32, 32]}, "b": {"frames": 2, "fps": 4, "resize": [16, 16]}},
        **changes,
    }
    return prepare(Config.model_validate(document))


def run(work: Prepared, heard: list[Progress]) -> list[runner.UnitError]:
    states = survey(work.store, work.plan)
    pending = [unit for unit in work.plan.units if any(unit.index not in state.standing for state in states)]

    def hear(news: News) -> None:
        if isinstance(news, Progress):
            heard.append(news)

    return runner.run_plan(work.plan, work.store, limits=work.config.limits, pending=pending, on_progress=hear)


def test_every_unit_of_every_product_is_made_and_heard_of(videos, tmp_path) -> None:
    work, heard = prepared(videos, tmp_path / "out"), []
    assert run(work, heard) == []
    assert [state.pending for state in survey(work.store, work.plan)] == [0, 0]
    assert {(news.product, news.unit) for news in heard} == {(f"clips/{n}", u) for n in "ab" for u in range(8)}
    assert run(work, heard) == []  # nothing pending


def test_products_of_equal_settings_are_both_made(videos, tmp_path) -> None:
    same = {"frames": 2, "fps": 4, "resize": [16, 16]}
    work = prepared(videos, tmp_path / "out", clips={"a": same, "b": same})
    assert run(work, []) == []
    assert [state.pending for state in survey(work.store, work.plan)] == [0, 0]
    assert work.store.read("clips/a/clips-000000.tar") == work.store.read("clips/b/clips-000000.tar")


def test_only_what_is_missing_is_made(videos, tmp_path) -> None:
    work = prepared(videos, tmp_path / "out")
    run(work, [])
    kept = work.store.identity("clips/a/clips-000001.tar")
    work.store.delete("clips/b/_receipts/000001.json")
    run(work, heard := [])
    assert {news.unit for news in heard} == {1}
    assert work.store.identity("clips/a/clips-000001.tar") == kept
    assert [state.pending for state in survey(work.store, work.plan)] == [0, 0]


def test_storage_that_cannot_be_written_stops_the_run_with_a_sentence(videos, tmp_path) -> None:
    work = prepared(videos, tmp_path / "out")
    (tmp_path / "out/clips").mkdir()
    (tmp_path / "out/clips/a").write_text("a file where a folder must go")
    with pytest.raises(ReelmillError, match="can't write here"):
        run(work, [])


def test_a_worker_that_dies_is_replaced(videos, tmp_path) -> None:
    work, heard = prepared(videos, tmp_path / "out"), []
    killed = threading.Event()

    def kill_one() -> None:
        """kill -9 the first worker that holds a decoder."""
        for _ in range(3000):
            for pid in descendants(os.getpid()):
                if b"pipeline.video.decoder_process" in command(pid):
                    os.kill(parent(pid), signal.SIGKILL)
                    killed.set()
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=kill_one)
    thread.start()
    errors = run(work, heard)
    thread.join()
    assert killed.is_set()
    assert errors == []
    assert [state.pending for state in survey(work.store, work.plan)] == [0, 0]

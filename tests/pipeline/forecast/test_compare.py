"""What was predicted beside what was spent, on made-up numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.forecast.compare import compare, load_plan
from pipeline.runs import Spent
from pipeline.store import Store
from pipeline.survey import ProductState, Standing
from schemas.forecast import PLAN_FILE, Cluster, Forecast, ProductForecast, Range
from schemas.receipt import FileEntry, Receipt
from schemas.work import ProductWork


def exactly(value: float) -> Range:
    return Range(low=value, value=value, high=value)


def product(path: str, **changes) -> ProductForecast:
    fields = {"device": "cpu", "cores_per_worker": 1, "source": "measured", "num_probes": 9, "grows_with": "bytes"}
    fields |= {"worker_s": exactly(400), "cpu_s": exactly(300), "items": exactly(100), "bytes": exactly(5000)}
    fields |= {"objects": 9, "open_s": 2.0, "largest_unit_s": 0.0}
    return ProductForecast.model_validate({"product": path, "fingerprint": f"of {path}"} | fields | changes)


def planned(*products: ProductForecast) -> Forecast:
    fields = {"machine": "m", "num_videos": 100, "source_bytes": 1, "num_units": 50, "num_probed": 9}
    fields |= {"num_probes_failed": 0, "probing_s": 1.0, "cluster": Cluster(nodes=8, cores=32), "efficiency": 1.0}
    fields |= {"before_s": 60.0, "wall_s": exactly(1), "core_s": exactly(1), "gpu_s": exactly(0), "bytes": exactly(1)}
    fields |= {"objects": 1, "puts": 1, "cost": None, "bottleneck": "", "scaled": (), "assumptions": ()}
    return Forecast.model_validate({"products": products} | fields)


def state(path: str, *, videos: int, num_bytes: int, fingerprint: str | None = None) -> ProductState:
    entry = FileEntry(path="x", bytes=num_bytes, sha256="")
    found = ProductState(path, fingerprint or f"of {path}", num_units=1, num_rows=videos)
    receipt = Receipt(product=path, unit=0, fingerprint="", rows={"ok": videos}, items=1, files=(entry,))
    found.standing[0] = Standing.of(receipt)
    return found


def spent(wall_s: float = 100.0, cores: int = 4, gpus: int = 0, **products: ProductWork) -> Spent:
    by_path = {name.replace("_", "/"): work for name, work in products.items()}
    return Spent(1, wall_s, cores * wall_s, gpus * wall_s, by_path)


def test_per_video_and_the_time_on_the_cores_that_there_were() -> None:
    found = compare(
        planned(product("clips/a")),
        [state("clips/a", videos=100, num_bytes=4000)],
        spent(clips_a=ProductWork(videos=100, busy_s=310, reading_s=7, writing_s=3, cpu_s=400)),
    )
    assert found is not None
    (clips,) = found.products
    assert (clips.worker_s.predicted, clips.worker_s.actual) == (4.0, 3.2)
    assert clips.worker_s.ratio == pytest.approx(1.25)
    assert clips.cpu_s.ratio == pytest.approx(0.75)
    assert clips.bytes.ratio == pytest.approx(1.25)
    assert found.num_cores == 4
    assert found.wall_s is not None
    # Ray's start is no part of what a run records; the workers' is
    assert (found.wall_s.predicted, found.wall_s.actual) == (pytest.approx(400 / 4 + 2), 100)
    assert found.as_json()["wall_s"]["ratio"] == pytest.approx(1.02)


@pytest.mark.parametrize(
    ("path", "changes", "units", "num_workers"),
    [
        ("clips/a", {}, 50, 4),
        ("clips/a", {}, 3, 3),  # the fourth core had no unit
        ("clips/a", {"workers": 2}, 50, 2),
        ("features/c", {"cores_per_worker": 2}, 50, 2),  # a model on each of two nodes
        ("features/c", {"device": "gpu", "cores_per_worker": 0}, 50, 1),
    ],
)
def test_each_worker_loads_code_with_its_first_unit(path, changes, units, num_workers) -> None:
    work = {path.replace("/", "_"): ProductWork(units=units, videos=100, cpu_s=1)}
    states = [state(path, videos=100, num_bytes=1)]
    found = compare(planned(product(path, open_cpu_s=5.0, **changes)), states, spent(gpus=1, **work))
    assert found is not None
    assert found.products[0].cpu_s.predicted == pytest.approx((300 + 5 * num_workers) / 100)


def test_half_a_run_is_compared_with_half_of_what_was_predicted() -> None:
    found = compare(
        planned(product("clips/a"), product("flow/b")),
        [state("clips/a", videos=50, num_bytes=2500), state("flow/b", videos=0, num_bytes=0)],
        spent(wall_s=52, clips_a=ProductWork(videos=50, busy_s=200, cpu_s=150)),
    )
    assert found is not None
    assert [one.product for one in found.products] == ["clips/a"]
    assert found.products[0].bytes.ratio == pytest.approx(1)
    assert found.wall_s is not None
    assert found.wall_s.predicted == pytest.approx(200 / 4 + 4)


def test_other_settings_than_planned_are_said_and_not_compared() -> None:
    found = compare(
        planned(product("clips/a")),
        [state("clips/a", videos=9, num_bytes=1, fingerprint="of others"), state("clips/new", videos=9, num_bytes=1)],
        spent(clips_a=ProductWork(videos=9), clips_new=ProductWork(videos=9)),
    )
    assert found is not None
    assert found.others == ("clips/a", "clips/new")
    assert found.products == ()
    assert found.wall_s is None


def test_gpu_work_on_a_cluster_without_gpus_has_no_time_to_compare() -> None:
    on_gpu = product("features/c", device="gpu", cores_per_worker=0)
    states = [state("features/c", videos=100, num_bytes=1)]
    work = {"features_c": ProductWork(videos=100, busy_s=200)}
    without = compare(planned(on_gpu), states, spent(**work))
    assert without is not None
    assert without.wall_s is None
    with_gpus = compare(planned(on_gpu), states, spent(gpus=2, **work))
    assert with_gpus is not None
    assert with_gpus.wall_s is not None
    assert with_gpus.wall_s.predicted == pytest.approx(400 / 2 + 2)


def test_nothing_made_is_nothing_to_compare() -> None:
    assert compare(planned(product("clips/a")), [state("clips/a", videos=1, num_bytes=1)], spent()) is None


def test_a_plan_that_is_damaged_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert load_plan(store) is None
    store.put(PLAN_FILE, b"{}")
    assert load_plan(store) is None
    there = planned(product("clips/a"))
    store.put(PLAN_FILE, there.model_dump_json().encode())
    assert load_plan(store) == there

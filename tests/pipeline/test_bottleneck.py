"""The one sentence, over made-up runs."""

import pytest

from pipeline.bottleneck import verdict
from schemas.work import PoolRecord, ProductWork, RunRecord

TASKS = PoolRecord(cpus=1)
GPU_ACTORS = PoolRecord(workers=2, cpus=0, gpus=1, holds=True)


def product(held_s: float = 1000.0, *, units: int = 50, pool: PoolRecord = TASKS, **shares) -> ProductWork:
    """A product of which `busy=0.9, idle=0.1 …` are shares of what its workers held; other names are fields."""
    seconds = {
        f"{name}_s": held_s * shares.pop(name, 0.0) for name in ("busy", "idle", "reading", "writing", "opening")
    }
    return ProductWork(held_s=held_s, units=units, pool=pool, **seconds, **shares)


def run(wall_s: float = 500.0, *, cores: float = 4, gpus: float = 0, **products: ProductWork) -> RunRecord:
    named = {path.replace("_", "/"): work for path, work in products.items()}
    return RunRecord(
        run=1, state="done", began="", wall_s=wall_s, cores_s=cores * wall_s, gpus_s=gpus * wall_s, products=named
    )


def check(record: RunRecord, kind: str, path: str, *words: str) -> None:
    found = verdict(record)
    assert found is not None
    assert (found.kind, found.product) == (kind, path), found.sentence
    for word in words:
        assert word in found.sentence
    assert found.sentence.endswith(".")
    assert len(found.sentence) < 260


def test_a_pool_that_others_wait_for() -> None:
    few = PoolRecord(workers=2, cpus=1)
    clips, features = product(busy=0.97, idle=0.03, pool=few), product(busy=0.36, idle=0.64)
    record = run(clips_a=clips, features_c=features)
    check(record, "pool", "clips/a", "97%", "features/c's waited 64%", "pools.clips.workers higher (clips/a had 2)")


def test_a_model_that_all_others_wait_for() -> None:
    """A real record: a model on the cores of one node, beside clips and flow that wait for it to take their units."""
    model = PoolRecord(workers=1, cpus=0, holds=True)
    clips = product(69.86, busy=0.238, idle=0.747, writing=0.013, cpu_s=6.2, units=25, videos=25)
    c3d = product(107.67, busy=0.761, idle=0.155, opening=0.069, cpu_s=48.1, units=25, videos=25, pool=model)
    flow = product(193.63, busy=0.223, idle=0.760, writing=0.011, cpu_s=13.2, units=25, videos=25)
    record = run(105.64, cores=2, clips_rgb16=clips, features_c3d=c3d, flow_tvl1=flow)
    record.units_pending = 25
    check(record, "pool", "features/c3d", "76%", "flow/tvl1's waited 76%", "give it a GPU, or add CPU nodes")


def test_more_actors_want_more_gpus() -> None:
    features = product(busy=0.95, device_s=700.0, pool=GPU_ACTORS)
    check(run(gpus=4, features_c=features), "pool", "features/c", "add GPU nodes (and set pools.features.workers")


@pytest.mark.parametrize(("videos", "words"), [(8, "videos_per_unit lower than 4"), (2, "no knob")])
def test_more_workers_than_units_would_have_nothing_to_do(videos, words) -> None:
    clips = product(busy=0.97, units=2, videos=videos, pool=PoolRecord(workers=2, cpus=1))
    record = run(clips_a=clips)
    record.units_pending = 2
    check(record, "pool", "clips/a", words)
    assert "workers higher" not in verdict(record).sentence


def test_all_cores_busy_wants_more_cores() -> None:
    clips = product(busy=0.99, cpu_s=1900.0, frames_decoded=100, frames_used=90)
    check(run(clips_a=clips), "cores", "clips/a", "the cores were busy 95%", "add CPU nodes")
    assert "key frames" not in verdict(run(clips_a=clips)).sentence


def test_all_cores_busy_with_frames_that_nobody_uses() -> None:
    clips = product(busy=0.99, cpu_s=1900.0, frames_decoded=3800, frames_used=100)
    check(run(clips_a=clips), "cores", "clips/a", "decodes 38 frames")


def test_all_cores_busy_with_a_model_wants_a_gpu() -> None:
    model = PoolRecord(workers=1, cpus=0, holds=True)
    clips, features = product(busy=0.9, cpu_s=400.0), product(busy=0.9, cpu_s=1500.0, pool=model)
    check(run(clips_a=clips, features_c=features), "cores", "features/c", "79% of that", "give it a GPU")


def test_a_model_with_all_units_at_once_wants_a_gpu_still() -> None:
    model = PoolRecord(workers=1, cpus=0, holds=True)
    record = run(features_c=product(busy=0.9, units=1, videos=1, pool=model))
    record.units_pending = 1
    check(record, "pool", "features/c", "; give it a GPU.")


def test_more_cores_alone_are_nothing_to_a_pool_that_is_bounded() -> None:
    clips = product(busy=0.99, cpu_s=1900.0, pool=PoolRecord(workers=4, cpus=1))
    check(run(clips_a=clips), "cores", "clips/a", "pools.clips.workers higher (clips/a had 4), and add CPU nodes")


def test_gpus_that_never_rest() -> None:
    features = product(busy=0.95, device_s=950.0, pool=GPU_ACTORS)
    check(run(gpus=2, features_c=features), "gpus", "features/c", "95%", "add GPU nodes (and set pools.features")


def test_a_busy_worker_whose_gpu_rests_wants_larger_batches() -> None:
    features = product(busy=0.95, device_s=300.0, pool=GPU_ACTORS)
    check(run(gpus=2, features_c=features), "batches", "features/c", "30%", "batch_size higher")


def test_storage_that_is_slow_to_take_it() -> None:
    clips = product(busy=0.55, writing=0.41, idle=0.04, bytes_out=4_100_000_000)
    check(run(clips_a=clips), "output", "clips/a", "41%", "10 MB/s")


def test_storage_that_is_slow_to_give_it() -> None:
    clips = product(busy=0.4, reading=0.5, idle=0.1, bytes_in=1_000_000_000)
    check(run(clips_a=clips), "input", "clips/a", "50%", "2 MB/s")


def test_a_model_that_waits_for_decoded_clips() -> None:
    features = product(busy=0.3, reading=0.6, device_s=250.0, pool=GPU_ACTORS)
    record = run(gpus=2, clips_a=product(busy=0.5, idle=0.2), features_c=features)
    check(record, "decoding", "features/c", "60%", "cores")


def test_units_too_few_to_go_round() -> None:
    clips = product(units=5, videos=17, busy=0.4, idle=0.6)
    check(run(clips_a=clips), "few_units", "clips/a", "60%", "made 5", "units.videos_per_unit lower than 4 ")


def test_no_unit_is_smaller_than_a_video() -> None:
    check(run(clips_a=product(units=5, videos=5, busy=0.4, idle=0.6)), "nothing", "", "40%")


def test_units_are_not_too_few_where_a_later_product_lags() -> None:
    clips, flow = product(units=50, videos=500, busy=0.4, idle=0.6), product(busy=0.6, idle=0.4)
    check(run(clips_a=clips, flow_b=flow), "nothing", "", "flow/b", "60%")


def test_a_run_of_loading_models() -> None:
    features = product(busy=0.3, opening=0.5, idle=0.2, pool=GPU_ACTORS)
    check(run(features_c=features), "opening", "features/c", "50%", "pools.features.workers lower")


def test_no_run_has_fewer_workers_than_one() -> None:
    features = product(busy=0.3, opening=0.5, idle=0.2, pool=PoolRecord(workers=1, cpus=0, holds=True))
    check(run(features_c=features), "opening", "features/c", "50%", "no knob")


def test_nothing_stands_out() -> None:
    check(run(clips_a=product(busy=0.75, idle=0.25, cpu_s=1200.0)), "nothing", "", "75%", "60%")


@pytest.mark.parametrize("wall_s", [0.0, 4.0])
def test_too_short_to_say(wall_s) -> None:
    check(run(wall_s, clips_a=product(busy=1.0)), "too_short", "")


def test_a_run_that_made_nothing_has_none() -> None:
    assert verdict(run()) is None
    assert verdict(run(clips_a=ProductWork(given_up=3, held_s=10.0))) is None


def test_the_storage_counts_before_the_pool_that_waits_for_it() -> None:
    """Writers that wait make those behind them wait: the cause is named, not its shadow."""
    clips, features = product(busy=0.3, writing=0.7), product(busy=0.2, idle=0.8)
    check(run(clips_a=clips, features_c=features), "output", "clips/a")

"""How units flow through stages of known length, on a real local Ray: who waits for whom."""

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def first_end(log, product: str) -> float:
    return next(line.ended_s for line in log if line.product == product)


def share_done(log, product: str, moment_s: float) -> float:
    ends = [line.ended_s for line in log if line.product == product]
    return sum(end <= moment_s for end in ends) / len(ends)


@pytest.mark.parametrize(
    "pools", [{}, {"clips": {"workers": 1}, "flow": {"workers": 1}}], ids=["one task", "two pools"]
)
def test_a_fast_stage_does_not_keep_a_slow_one_from_its_units(fake_run, pools) -> None:
    """Clips take no time and flow does: the last product has its first unit long before the clips are through."""
    chain = {"clips/a": [], "flow/f": ["clips/a"], "features/f": ["flow/f"]}
    stages = {"clips/a": {"sleep_s": 0.1}, "flow/f": {"sleep_s": 0.4}, "features/f": {"sleep_s": 0.1}}
    run = fake_run(chain, [1] * 24, stages, pools=pools)
    assert run.errors == {}
    assert {(line.product, line.unit) for line in run.log} == {(path, unit) for path in chain for unit in range(24)}
    began = first_end(run.log, "features/f")
    assert share_done(run.log, "clips/a", began) < 0.6
    # flow goes on at its own pace meanwhile, not after the clips
    half = [line.ended_s for line in run.log if line.product == "clips/a"][11]
    assert share_done(run.log, "flow/f", half) > 0.05


def test_stages_on_cpu_and_on_the_model_overlap_by_unit_and_the_largest_units_start_first(fake_run) -> None:
    chain = {"clips/a": [], "features/c": ["clips/a"]}
    stages = {"clips/a": {"sleep_s": 0.3}, "features/c": {"sleep_s": 0.15}}
    sizes = [5, 1, 9, 3, 7, 2, 8, 4, 12, 10, 11, 6]
    run = fake_run(chain, sizes, stages, workers=1)
    clips, features = ([line for line in run.log if line.product == path] for path in chain)
    assert [sizes[line.unit] for line in clips] == sorted(sizes, reverse=True)
    overlapping = sum(any(c.began_s < f.ended_s and f.began_s < c.ended_s for c in clips) for f in features)
    assert overlapping >= 6
    assert features[0].ended_s < clips[9].ended_s


def test_one_unit_that_kills_every_worker_is_named_and_all_others_are_made(fake_run) -> None:
    chain = {"clips/a": [], "features/c": ["clips/a"]}
    run = fake_run(chain, [1] * 6, {"clips/a": {"kills": [4]}})
    assert {line.unit for line in run.log if line.product == "features/c"} == {0, 1, 2, 3, 5}
    assert set(run.errors) == {4}
    assert run.errors[4].startswith("clips/a unit 000004: its worker died every time it was tried")


def test_quick_units_that_went_in_a_bundle_with_one_that_kills_its_worker_are_made_once(fake_run) -> None:
    """By then the pace is known. What was made before it stands, what came after it goes alone in the next round."""
    run = fake_run({"clips/a": []}, [1] * 240, {"clips/a": {"kills": [180], "write": True}})
    assert sorted(line.unit for line in run.log) == [unit for unit in range(240) if unit != 180]
    assert set(run.errors) == {180}
    assert run.errors[180].startswith("clips/a unit 000180: its worker died every time it was tried")


def test_a_round_that_loses_too_much_breaks_off_and_the_rest_is_made_in_the_next(fake_run) -> None:
    """Units 3 and 4 kill their workers, and a round bears one of these."""
    run = fake_run({"clips/a": []}, [1] * 8, {"clips/a": {"kills": [3, 4], "sleep_s": 0.2}}, lost_at_once=1)
    assert {line.unit for line in run.log} == {0, 1, 2, 5, 6, 7}
    assert run.errors.keys() <= {3, 4, -1}
    assert any("its worker died every time it was tried" in message for message in run.errors.values())


def test_what_a_local_ray_can_never_have_is_a_sentence(fake_run) -> None:
    run = fake_run({"clips/a": [], "features/c": ["clips/a"]}, [1], {}, pools={"features": {"gpus": 1}})
    assert "features/c asks for a node with 1 GPU, and this cluster has none" in run.errors[-1]
    assert run.log == []

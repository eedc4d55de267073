from collections import Counter

from pipeline.synth import SynthSpec
from pipeline.synth.plan import plan_videos, split_of


def test_every_class_has_its_videos_and_every_class_its_splits():
    spec = SynthSpec(num_classes=5, videos_per_class=10)
    plans = plan_videos(spec)
    counts = Counter((plan.label, plan.split) for plan in plans)
    assert counts == {(name, split): n for name in spec.classes for split, n in (("train", 6), ("val", 2), ("test", 2))}
    assert len({plan.video_id for plan in plans}) == 50


def test_ids_name_neither_class_nor_split_nor_order():
    plans = plan_videos(SynthSpec(num_classes=20, videos_per_class=20))
    assert all(len(plan.video_id) == 11 and plan.video_id.isalnum() for plan in plans)
    ranks = {plan.video_id: rank for rank, plan in enumerate(sorted(plans, key=lambda plan: plan.video_id))}
    first_half = [ranks[plan.video_id] for plan in plans[:200]]
    assert abs(sum(first_half) / 200 - 199.5) < 30  # sorting by id shuffles the classes


def test_shares_are_rounded_so_that_nothing_is_lost():
    assert [split_of(i, 3, (0.6, 0.2, 0.2)) for i in range(3)] == ["train", "train", "test"]
    assert [split_of(i, 2, (1.0, 0.0, 0.0)) for i in range(2)] == ["train", "train"]
    assert [split_of(i, 2, (0.0, 0.0, 1.0)) for i in range(2)] == ["test", "test"]


def test_segments_lie_apart_inside_the_video_and_never_are_still():
    spec = SynthSpec(num_classes=12, videos_per_class=0, num_untrimmed=6, untrimmed_s=40, num_actors=2)
    labels: Counter[str] = Counter()
    for plan in plan_videos(spec):
        assert plan.num_frames == 1000
        done = 0
        for stretch in plan.stretches:
            assert done < stretch.start_frame < stretch.end_frame <= plan.num_frames
            assert stretch.actor in (0, 1)
            done = stretch.end_frame
            labels[stretch.label] += 1
    assert set(labels) == set(spec.classes) - {"still"}
    assert max(labels.values()) - min(labels.values()) <= 1


def test_the_shortest_untrimmed_video_still_has_a_segment():
    for seed in range(40):
        spec = SynthSpec(videos_per_class=0, num_untrimmed=1, duration_s=1, untrimmed_s=2, fps=5, seed=seed)
        (plan,) = plan_videos(spec)
        assert plan.stretches
        assert plan.stretches[-1].end_frame <= plan.num_frames


def test_more_untrimmed_videos_keep_the_first_ones():
    few, many = (plan_videos(SynthSpec(videos_per_class=0, num_untrimmed=n, split=(1, 0, 0))) for n in (2, 5))
    assert many[:2] == few

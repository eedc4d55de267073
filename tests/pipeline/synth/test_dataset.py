"""Whole datasets, on disk, in one and in two processes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.synth import SynthSpec, make_dataset
from pipeline.synth.plan import plan_videos
from pipeline.synth.scene import Scene
from schemas.errors import UsageError

SPEC = SynthSpec(
    num_classes=3, videos_per_class=2, num_untrimmed=1, width_px=64, height_px=48, fps=10, duration_s=2, untrimmed_s=8,
    flow=True,
)  # fmt: skip


def tree(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("synth") / "set"
    return out, make_dataset(out, SPEC)


def test_the_report_and_the_tree_agree(made):
    out, report = made
    assert (report.num_trimmed, report.num_untrimmed, report.num_made) == (6, 1, 7)
    assert report.seconds_of_video == 20
    names = tree(out)
    assert (
        len([name for name in names if name.startswith("trimmed/videos/") and name.endswith("_000000_000002.mp4")]) == 6
    )
    for kind, count in (("trimmed", 6), ("untrimmed", 1)):
        assert len([name for name in names if name.startswith(f"{kind}/tubes/")]) == count
        assert len([name for name in names if name.startswith(f"{kind}/flow/")]) == count
    for path in (report.kinetics_csv, report.activitynet_json, report.preview, "synth.json", "classes.txt"):
        assert path in names
    assert not [name for name in names if name.startswith("_tmp")]
    settings = json.loads((out / "synth.json").read_text())
    assert settings["classes"] == ["move_right", "move_left", "move_up"]
    assert settings["settings"]["seed"] == 0


def test_two_processes_give_the_same_bytes(made, tmp_path):
    out, _ = made
    calls = []
    make_dataset(tmp_path / "again", SPEC, workers=2, progress=lambda done, total: calls.append((done, total)))
    assert tree(tmp_path / "again") == tree(out)
    assert calls == [(done, 7) for done in range(8)]


def test_another_seed_gives_other_videos(made, tmp_path):
    out, _ = made
    make_dataset(tmp_path / "other", SynthSpec(num_classes=1, videos_per_class=1, seed=7))
    assert not set(tree(tmp_path / "other").values()) & {v for k, v in tree(out).items() if k.endswith(".mp4")}


def test_an_interrupted_dataset_is_finished_by_the_same_call(tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "set", SPEC, progress=stop)
    stood = list((tmp_path / "set").rglob("*.mp4"))
    assert len(stood) == 3
    stood[0].unlink()
    times = {path: path.stat().st_mtime_ns for path in stood[1:]}
    report = make_dataset(tmp_path / "set", SPEC)
    assert report.num_made == 5
    assert {path: path.stat().st_mtime_ns for path in stood[1:]} == times
    make_dataset(tmp_path / "whole", SPEC)
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")


def test_a_folder_of_something_else_is_refused(made, tmp_path):
    out, _ = made
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"is not empty and holds no synth\.json"):
        make_dataset(tmp_path, SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UsageError, match=r"other settings \(settings\.seed\)"):
        make_dataset(out, SynthSpec(**{**SPEC.to_json(), "split": SPEC.split, "seed": 1}))
    with pytest.raises(UsageError, match="can't make a dataset here"):
        make_dataset(tmp_path / "thesis.tex", SPEC)


def test_a_video_shows_its_scene_frame_by_frame(made):
    out, _ = made
    for plan in (plan_videos(SPEC)[0], plan_videos(SPEC)[-1]):
        scene = Scene(SPEC, plan)
        video = next((out / plan.kind / "videos").rglob(f"{plan.video_id}*.mp4"))
        with av.open(str(video)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == plan.num_frames
        for number in range(0, plan.num_frames, 5):
            assert np.abs(frames[number].astype(int) - scene.picture(number)).mean() < 8
        record = json.loads((out / plan.kind / "tubes" / f"{plan.video_id}.json").read_text())
        assert record["video"] == video.name
        assert record["num_frames"] == plan.num_frames

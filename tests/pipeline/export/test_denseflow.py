"""Flow products that are really made, as denseflow's folders: what they hold, and what a killed export leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline import receipts
from pipeline.export.denseflow import export_denseflow
from pipeline.flow import TVL1Params, dequantise, tvl1
from pipeline.flow.encode import decode_flow
from pipeline.store import Store
from schemas.config import Flow
from schemas.errors import ReelmillError, UsageError

ROOT = Path(__file__).resolve().parents[3]
CRICKET = ROOT / "../shared/data/videos/ucf101/v_CricketShot_g04_c01.avi"


def export(data, out: Path, **settings: Any):
    return export_denseflow(data.store, data.plan, data.flow, out=str(out), **settings)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def numbered(first: int, num_flow: int, num_img: int) -> set[str]:
    flow = {f"flow_{axis}_{k:05d}.jpg" for axis in "xy" for k in range(first, first + num_flow)}
    return flow | {f"img_{k:05d}.jpg" for k in range(first, first + num_img)}


def read_list(path: Path) -> list[tuple[str, int, list[int]]]:
    """As RawframeDataset reads it: words between white space; the rest of a line are labels, none is [-1]."""
    lines = [line.strip().split() for line in path.read_text().splitlines()]
    return [(words[0], int(words[1]), [int(word) for word in words[2:]] or [-1]) for words in lines]


def gray(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


# ---------------------------------------------------------------- a folder a clip


@pytest.mark.parametrize("start_index", [0, 1])
@pytest.mark.parametrize(("fields", "num_fields"), [("T", 5), ("T-1", 4)])
def test_a_folder_a_clip_holds_the_stored_bytes(made, tmp_path, start_index, fields, num_fields) -> None:
    data = made([35, 27], flow={"fields": fields})
    report = export(data, tmp_path / "out", start_index=start_index, per="clip")
    flow, clips = data.samples(data.flow), data.samples(data.clips)
    assert len(flow) == 3  # two clips, and one with a tail of one frame
    assert (report.per, report.why_clips) == ("clip", "")
    assert names(tmp_path / "out") == {*flow, "unsplit.txt", "_export.json"}
    for key, members in flow.items():
        folder = tmp_path / "out" / key
        assert names(folder) == numbered(start_index, num_fields, 5)
        for k in range(num_fields):
            for axis in "xy":
                written = (folder / f"flow_{axis}_{k + start_index:05d}.jpg").read_bytes()
                assert written == members[f"{axis}.{k:03d}.jpg"]
        for k in range(5):
            assert (folder / f"img_{k + start_index:05d}.jpg").read_bytes() == clips[key][f"{k:03d}.jpg"]
    listed = read_list(tmp_path / "out/unsplit.txt")
    assert listed == [(key, num_fields, [0 if key.startswith("v0") else 1]) for key in flow]


def test_without_frames(made, tmp_path) -> None:
    data = made([25], flow={"fps": 10})
    with pytest.raises(UsageError, match=r"a field 10 times a second and clips/c a frame 5 times.*--no-frames"):
        export(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    data.store.delete_folder("clips/c/_receipts")  # the clips are not needed then
    report = export(data, tmp_path / "out", frames=False)
    assert names(tmp_path / "out/v0") == numbered(0, 9, 0)  # the tenth would end with the video
    assert (report.num_fields, report.num_frames) == (9, 0)


# ---------------------------------------------------------------- a folder a video


@pytest.mark.parametrize("start_index", [0, 1])
def test_clips_that_tile_a_video_are_one_run(made, tmp_path, tree, start_index) -> None:
    """The same bytes as the export of clips that hold each whole video, which shares no code of the joining."""
    tiles, whole = made([60, 36, 25]), made([60, 36, 25], clips={"frames": 14})
    report = export(tiles, tmp_path / "tiles", start_index=start_index)
    assert (report.per, report.num_folders, report.num_frames, report.num_fields) == ("video", 3, 25, 22)
    export(whole, tmp_path / "whole", start_index=start_index)
    found = tree(tmp_path / "tiles")
    assert {name for name in found if "/" not in name} == {"_export.json", "unsplit.txt"}
    for video, num_frames in (("v0", 12), ("v1", 8), ("v2", 5)):
        assert names(tmp_path / "tiles" / video) == numbered(start_index, num_frames - 1, num_frames)
    expected = tree(tmp_path / "whole")
    assert {name: sha for name, sha in found.items() if name != "_export.json"} == {
        name: sha for name, sha in expected.items() if name != "_export.json"
    }
    assert read_list(tmp_path / "tiles/unsplit.txt") == [("v0", 11, [0]), ("v1", 7, [1]), ("v2", 4, [2])]


def test_a_tail_of_one_frame_leaves_as_many_frames_as_fields(made, tmp_path) -> None:
    export(made([28]), tmp_path / "out")
    assert names(tmp_path / "out/v0") == numbered(0, 5, 5)


@pytest.mark.parametrize(
    ("clips", "flow", "why"),
    [
        ({"stride_s": 0.6}, {}, "the clips of v0 overlap"),
        ({"stride_s": 1.2}, {}, "the clips of v0 leave gaps"),
        ({}, {"fields": "T-1"}, "between the clips of v0 a field is not stored"),
    ],
)
def test_clips_that_are_no_one_run(made, tmp_path, clips, flow, why) -> None:
    data = made([50, 50], clips=clips, flow=flow)
    with pytest.raises(UsageError, match=f"--per video: {why}; give --per clip"):
        export(data, tmp_path / "out", per="video")
    report = export(data, tmp_path / "out")
    assert (report.per, report.why_clips) == ("clip", why)
    assert f"one a clip, since {why}" in report.lines()[0]


def test_fields_between_the_frames_of_one_clip(made, tmp_path) -> None:
    export(made([25], flow={"fields": "T-1"}), tmp_path / "out")
    assert names(tmp_path / "out/v0") == numbered(0, 4, 5)


# ---------------------------------------------------------------- other encodings


@pytest.mark.parametrize("bound", [20, 3])
@pytest.mark.parametrize("encoding", ["png", "npy"])
def test_flow_that_is_no_jpeg_reads_back(made, tmp_path, encoding, bound) -> None:
    data = made([50], flow={"encoding": encoding, "bound": bound, "quality": 100})
    export(data, tmp_path / "out", per="clip")
    level_px = 2 * bound / 255
    for key, members in data.samples(data.flow).items():
        folder = tmp_path / "out" / key
        stored = decode_flow(members, Flow.model_validate(data.flow.settings))  # (T,H,W,2) px
        levels = np.stack(
            [np.stack([gray(folder / f"flow_{axis}_{k:05d}.jpg") for axis in "xy"], -1) for k in range(len(stored))]
        )
        assert levels.shape == stored.shape
        error_px = np.abs(dequantise(levels, bound=bound) - stored.clip(-bound, bound))
        assert error_px.max() <= 2 * level_px  # half a level quantised, one by JPEG at quality 100
        assert error_px.mean() <= 0.5 * level_px
        assert np.median(stored[:4, 8:-8, 8:-8, 0]) == pytest.approx(2.5, abs=0.3)


def test_flow_in_png_becomes_the_jpegs_of_a_jpeg_product(made, tmp_path, tree) -> None:
    for encoding in ("png", "jpeg"):
        export(made([30], flow={"encoding": encoding, "quality": 80}), tmp_path / encoding)
    png, jpeg = tree(tmp_path / "png"), tree(tmp_path / "jpeg")
    assert {name for name in png if png[name] != jpeg[name]} == {"_export.json"}


def test_frames_in_npy_become_the_jpegs_of_a_jpeg_product(made, tmp_path, tree) -> None:
    for encoding in ("npy", "jpeg"):
        export(made([30], clips={"encoding": encoding, "quality": 80}), tmp_path / encoding)
    npy, jpeg = tree(tmp_path / "npy"), tree(tmp_path / "jpeg")
    assert {name for name in npy if npy[name] != jpeg[name]} == {"_export.json"}


def test_frames_in_mp4_are_decoded(made, tmp_path) -> None:
    for encoding in ("mp4", "jpeg"):
        export(made([35], clips={"encoding": encoding, "crf": 1}), tmp_path / encoding)
    for k in range(6):
        mp4, jpeg = (cv2.imread(str(tmp_path / f"{encoding}/v0/img_{k:05d}.jpg")) for encoding in ("mp4", "jpeg"))
        assert np.abs(mp4.astype(int) - jpeg).mean() < 8


def test_flow_k_of_a_real_video_is_the_motion_from_frame_k(made, tmp_path) -> None:
    if not CRICKET.exists():
        pytest.skip("the shared test videos are not here")
    rows = [{"video_id": "cricket", "uri": str(CRICKET)}]
    clips = {"frames": 6, "fps": 12.5, "short_side": 96, "windows": "uniform", "num_clips": 1}
    export(made([None], rows=rows, clips=clips), tmp_path / "out")
    folder = tmp_path / "out/cricket"
    frames = [cv2.cvtColor(cv2.imread(str(folder / f"img_{k:05d}.jpg")), cv2.COLOR_BGR2GRAY) for k in range(6)]
    error = np.zeros((5, 5))  # of the flow that frames i and i + 1 have, against what flow k says
    for i in range(5):
        own = tvl1(frames[i], frames[i + 1], params=TVL1Params(num_scales=2, num_warps=2), backend="opencv")
        for k in range(5):
            written = np.stack([gray(folder / f"flow_{axis}_{k:05d}.jpg") for axis in "xy"], -1)
            error[i, k] = np.abs(dequantise(written, bound=20) - own).mean()
    assert error.argmin(axis=1).tolist() == [0, 1, 2, 3, 4], error.round(3)
    assert np.diag(error).mean() < 0.2


# ---------------------------------------------------------------- the lists


def test_lists_by_split_with_any_number_of_labels(made, tmp_path) -> None:
    rows = [
        {"split": "train"},
        {"split": "test", "labels": ["a", "b", "c"], "label_ids": [3, 0, 7]},
        {"split": "train", "labels": [], "label_ids": []},
        {"split": "val"},
        {},
    ]
    data = made([25, 25, 30, None, 25], rows=rows)
    report = export(data, tmp_path / "out", start_index=1)
    assert read_list(tmp_path / "out/train.txt") == [("v0", 4, [0]), ("v2", 5, [-1])]
    assert read_list(tmp_path / "out/test.txt") == [("v1", 4, [3, 0, 7])]
    assert read_list(tmp_path / "out/unsplit.txt") == [("v4", 4, [4])]
    assert not (tmp_path / "out/val.txt").exists()
    assert report.lists == {"test.txt": 1, "train.txt": 2, "unsplit.txt": 1}
    assert (report.num_folders, report.num_without) == (4, 1)
    assert "1 video has no flow" in "\n".join(report.lines())
    for split in report.lists:
        for folder, total_frames, _ in read_list(tmp_path / "out" / split):
            for k in range(1, 1 + total_frames):
                for kind in ("img", "flow_x", "flow_y"):
                    assert gray(tmp_path / "out" / folder / f"{kind}_{k:05d}.jpg").shape[:2] == (32, 48)


def test_the_marker_says_how_to_read_levels(made, tmp_path) -> None:
    data = made([25], flow={"bound": 15})
    export(data, tmp_path / "out", start_index=1)
    marker = json.loads((tmp_path / "out/_export.json").read_text())
    assert marker["export"]["fingerprint"] == data.flow.fingerprint
    assert (marker["bound_px"], marker["fps"], marker["export"]["start_index"]) == (15, 5, 1)
    assert "v = 30 q / 255 - 15 px" in marker["flow"]


def test_sizes_that_differ_are_said(made, tmp_path) -> None:
    data = made([25], flow={"crop": [24, 24]})
    report = export(data, tmp_path / "out")
    assert gray(tmp_path / "out/v0/flow_x_00000.jpg").shape == (24, 24)
    assert gray(tmp_path / "out/v0/img_00000.jpg").shape[:2] == (32, 48)
    assert any("the flow's own" in line for line in report.lines())


# ---------------------------------------------------------------- again, and after a kill

KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.export.denseflow import export_denseflow
from pipeline.graph import make_plan
from pipeline.stages import CODE_VERSIONS
from pipeline.store import Store
from pipeline.units import plan_units, read_manifest
from schemas.config import Config

left, write = int(sys.argv[3]), Path.write_bytes

def write_bytes(path, data):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, data)

Path.write_bytes = write_bytes
store = Store(sys.argv[1])
config = Config.model_validate_json(sys.argv[4])
units = plan_units(read_manifest(store), 1)
plan = make_plan(config, units, code_version=CODE_VERSIONS.__getitem__, sha256=lambda name, features: "")
export_denseflow(store, plan, plan.product("flow/f"), out=sys.argv[2])
"""


@pytest.mark.parametrize("num_written", [0, 20, 60])
def test_a_killed_export_goes_on_to_the_same_bytes(made, tmp_path, tree, num_written) -> None:
    data = made([60, 36, 25], per_unit=1)
    out = tmp_path / "killed"
    config = {
        "dataset": "x",
        "source": {"kind": "directory", "videos": "/"},
        "clips": {"c": dict(data.clips.settings)},
        "flow": {"f": dict(data.flow.settings)},
    }
    words = [sys.executable, "-c", KILLED, data.store.uri, str(out), str(num_written), json.dumps(config)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (out / "unsplit.txt").exists()
    for folder in (path for path in out.iterdir() if path.is_dir() and path.name != "_tmp"):
        assert len(names(folder)) in (12 + 2 * 11, 8 + 2 * 7, 5 + 2 * 4)  # a folder that is there is whole
    export(data, out)
    export(data, tmp_path / "undisturbed")
    assert tree(out) == tree(tmp_path / "undisturbed")
    assert not (out / "_tmp").exists()


def test_again_changes_nothing_and_brings_back_what_was_deleted(made, tmp_path, tree) -> None:
    data, out = made([60, 36, 25]), tmp_path / "out"
    first = export(data, out)
    before, times = tree(out), {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    assert export(data, out) == first
    assert tree(out) == before
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*")} == times
    (out / "v1/flow_y_00003.jpg").unlink()
    export(data, out)
    assert tree(out) == before


def test_an_interrupt_ends_it_between_units(made, tmp_path, tree) -> None:
    data, out = made([25, 25, 25], per_unit=1), tmp_path / "out"

    def interrupt(num_rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(data, out, progress=interrupt)
    assert (out / "v0").exists()
    assert not (out / "unsplit.txt").exists()
    seen: list[int] = []
    export(data, out, progress=seen.append)
    assert seen == [1, 1, 1]
    export(data, tmp_path / "undisturbed")
    assert tree(out) == tree(tmp_path / "undisturbed")


def test_it_goes_on_for_the_same_export_only(made, tmp_path) -> None:
    data, out = made([25]), tmp_path / "out"
    export(data, out)
    with pytest.raises(UsageError, match="holds another export: its start_index is 0, and this one's would be 1"):
        export(data, out, start_index=1)
    with pytest.raises(UsageError, match="holds another export: its fingerprint is"):
        export(made([25], flow={"bound": 10}), out)


# ---------------------------------------------------------------- mistakes, and what is not there


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"start_index": 2}, "--start-index 2: give 0, as denseflow counts, or 1, as mmaction2's readers do"),
        ({"per": "unit"}, "--per unit: give video or clip"),
    ],
)
def test_wrong_settings(made, tmp_path, settings, sentence) -> None:
    data = made([None])
    with pytest.raises(UsageError) as error:
        export(data, tmp_path / "out", **settings)
    assert str(error.value) == sentence


def test_only_flow_is_exported(made, tmp_path) -> None:
    data = made([None])
    with pytest.raises(UsageError, match="--product clips/c: denseflow's folders hold flow; give one of flow/f"):
        export_denseflow(data.store, data.plan, data.clips, out=str(tmp_path / "out"))


@pytest.mark.parametrize("product", ["flow/f", "clips/c"])
def test_a_unit_that_is_not_made(made, tmp_path, product) -> None:
    data = made([10, 10], per_unit=1)
    receipts.retract(data.store, product, 1)
    with pytest.raises(ReelmillError, match=f"{product}: 1 of its 2 units are still to be made; finish it with"):
        export(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shard", ["flow/f/flow-000000.tar", "clips/c/clips-000000.tar"])
@pytest.mark.parametrize("damage", ["gone", "cut", "emptied"])
def test_a_damaged_shard_is_one_sentence(made, tmp_path, shard, damage) -> None:
    data = made([25, 25])
    path = Path(data.store.path(shard))
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:5000] if damage == "cut" else bytes(10240))
    with pytest.raises(
        ReelmillError, match=f"{shard} is missing or damaged .* delete .*_receipts/000000.json"
    ) as error:
        export(data, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out/v0").exists()


def test_a_dataset_without_one_flow(made, tmp_path) -> None:
    report = export(made([None]), tmp_path / "out")
    assert (report.num_folders, report.num_without, report.lists) == (0, 1, {})
    assert names(tmp_path / "out") == {"_export.json"}


def test_damaged_members_name_the_sample(made, tmp_path, monkeypatch) -> None:
    data = made([25], clips={"encoding": "npy"})
    from pipeline.export import jpegs

    monkeypatch.setattr(jpegs, "decode_frames", lambda members, encoding, **_: np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(ReelmillError, match=r"clips-000000.tar .*sample v0@0-1000000: it holds 2 frames and not 5"):
        export(data, tmp_path / "out")


def test_a_dataset_on_an_object_store(made, tmp_path, tree, s3_uri) -> None:
    data = made([36, 25])
    export(data, tmp_path / "from_disk")
    remote = Store(s3_uri.format("export"))
    root = Path(data.store.uri)
    for path in (path for path in root.rglob("*") if path.is_file()):
        remote.put(str(path.relative_to(root)), path.read_bytes())
    export_denseflow(remote, data.plan, data.flow, out=str(tmp_path / "from_s3"))
    assert tree(tmp_path / "from_s3") == tree(tmp_path / "from_disk")

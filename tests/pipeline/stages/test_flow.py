"""The flow stage end to end: real videos in, flow shards that webdataset reads, an index and a ledger out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import receipts
from pipeline.flow import TVL1Params, tvl1
from pipeline.flow.encode import decode_flow
from pipeline.graph import Product
from pipeline.shards import read_shard
from pipeline.stages import CODE_VERSIONS, card_of, clips, flow
from pipeline.stages.flow_card import describe
from pipeline.store import Store
from pipeline.units import plan_units, write_manifest
from pipeline.video.guard import Decoder
from schemas.config import Clips, Flow, Limits
from schemas.errors import ReelmillError, UsageError
from schemas.flow import FLOW_INDEX_SCHEMA
from schemas.ledger import LedgerRow
from schemas.manifest import MANIFEST_SCHEMA
from schemas.receipt import Receipt

ROOT = Path(__file__).resolve().parents[3]
REAL = ROOT / "../shared/data/videos"
DOUBLES = ROOT / "tests/pipeline/video"
HEIGHT, WIDTH = 48, 64
CLIPS = {"frames": 5, "fps": 5}
FLOW = {"clips": "c", "backend": "opencv", "params": {"num_scales": 3, "num_warps": 3}}


def write_video(path: Path, *, num_frames: int = 35, size: tuple[int, int] = (HEIGHT, WIDTH), seed: int = 0) -> Path:
    """25 fps: a coloured texture that moves a quarter of a pixel to the right with each frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 40, 3)).astype(np.uint8)
    scene = cv2.resize(noise, None, fx=8, fy=4, interpolation=cv2.INTER_CUBIC)  # two columns to a pixel
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for index in range(num_frames):
            left = 120 - index / 2
            moved = cv2.warpAffine(scene, np.float32([[1, 0, -left], [0, 1, 0]]), (2 * width, height))
            pixels = cv2.resize(moved, (width, height), interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def manifest(paths: Sequence[Path | str]) -> pa.Table:
    rows = [
        {"video_id": f"{i}-{Path(path).stem}", "uri": str(path), "labels": [f"c{i}"], "label_ids": [i]}
        for i, path in enumerate(paths)
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


class Dataset:
    """A store with a manifest, its clips, and the flow that the stage makes of them."""

    def __init__(self, folder: Path, paths: Sequence[Path | str], of_clips: dict, of_flow: dict, per_unit: int) -> None:
        self.folder, self.store = folder, Store(str(folder))
        table = manifest(paths)
        write_manifest(self.store, table)
        self.units = plan_units(table, per_unit)
        spec = Clips.model_validate({**CLIPS, **of_clips})
        self.spec = Flow.model_validate({**FLOW, **of_flow})
        self.clips = Product("clips", "c", spec.model_dump(mode="json"), {}, CODE_VERSIONS["clips"])
        settings = self.spec.model_dump(mode="json", by_alias=True)
        upstream = {"clips/c": self.clips.fingerprint}
        self.product = Product("flow", "f", settings, upstream, CODE_VERSIONS["flow"])

    def make_clips(self) -> None:
        receipts.write_card(self.store, card_of(self.clips, self.store))
        stage = clips.open_stage(self.clips, self.store, Limits())
        for unit in self.units:
            stage(unit)
        stage.close()

    def make(self, *, limits: Limits | None = None, module: str = "pipeline.video.decoder_process") -> list[Receipt]:
        """The flow of all units, on clips that stand already or are made here."""
        if not (self.folder / "clips").exists():
            self.make_clips()
        receipts.write_card(self.store, card_of(self.product, self.store))
        with Decoder(limits or Limits(), module=module) as decoder:
            stage = flow.FlowStage(self.product, self.store, decoder)
            return [stage(unit) for unit in self.units]

    def samples(self, unit: int = 0) -> dict[str, dict[str, bytes]]:
        with self.store.open(f"flow/f/flow-{unit:06d}.tar") as file:
            return dict(read_shard(file))

    def fields(self, unit: int = 0) -> list[np.ndarray]:
        """(T,H,W,2) float32 px of each clip."""
        return [decode_flow(members, self.spec) for members in self.samples(unit).values()]

    def index(self, unit: int = 0) -> list[dict[str, Any]]:
        table = pq.read_table(self.folder / f"flow/f/_index/{unit:06d}.parquet")
        assert table.schema.remove_metadata().equals(FLOW_INDEX_SCHEMA)
        return table.to_pylist()

    def ledger(self, unit: int = 0) -> list[LedgerRow]:
        return receipts.read_ledger(self.store, "flow/f", unit)

    def hashes(self) -> dict[str, str]:
        root = self.folder / "flow"
        files = (path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Dataset]:
    def make(
        paths: Sequence[Path | str], of_flow: dict | None = None, *, clips: dict | None = None, per_unit: int = 100
    ) -> Dataset:
        folder = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        return Dataset(folder, paths, clips or {}, of_flow or {}, per_unit)

    return make


def grays(path: Path) -> list[np.ndarray]:
    """Every frame of a video as (H,W) uint8, by other means than the stage's own."""
    with av.open(str(path)) as container:
        return [cv2.cvtColor(f.to_ndarray(format="rgb24"), cv2.COLOR_RGB2GRAY) for f in container.decode(video=0)]


def flow_of(first: np.ndarray, second: np.ndarray, **params: Any) -> np.ndarray:
    return tvl1(first, second, params=TVL1Params(**{**FLOW["params"], **params}), backend="opencv")


# ---------------------------------------------------------------- what a shard holds


@pytest.mark.parametrize("encoding", ["jpeg", "png", "npy"])
def test_shard_index_and_ledger_say_the_same(dataset, tmp_path, encoding) -> None:
    data = dataset([write_video(tmp_path / "a.mp4"), write_video(tmp_path / "b.mp4", seed=1)], {"encoding": encoding})
    (receipt,) = data.make()
    assert receipt.rows == {"ok": 2, "partial": 0, "failed": 0, "filtered": 0}
    assert receipt.items == len(data.index()) == 4
    suffix = {"jpeg": "jpg", "png": "png"}.get(encoding)
    names = [f"{axis}.{k:03d}.{suffix}" for k in range(5) for axis in "xy"] if suffix else ["npy"]
    for row, (key, members) in zip(data.index(), data.samples().items(), strict=True):
        assert key == row["clip_id"]
        assert list(members) == [*names, "cls", "json"]
        assert json.loads(members["json"]) == {**row, "fields": "T"}
        assert members["cls"] == str(row["label_ids"][0]).encode()
        fields = decode_flow(members, data.spec)
        assert fields.shape == (5, row["height_px"], row["width_px"], 2) == (5, HEIGHT, WIDTH, 2)
        for field in fields[: row["num_real_fields"]]:  # 1.25 px to the right from grid time to grid time
            assert np.median(field[8:-8, 8:-8, 0]) == pytest.approx(1.25, abs=0.15)
            assert np.median(field[8:-8, 8:-8, 1]) == pytest.approx(0, abs=0.1)
        assert row["saturated"] == 0
        assert 0 < row["rmse_px"] < (0.001 if encoding == "npy" else 0.15)
        assert 1 < row["max_abs_px"] < 20
    assert [(row["start_s"], row["center_s"], row["end_s"]) for row in data.index()] == [(0, 0.5, 1), (1, 1.2, 1.4)] * 2
    assert [row.num_items for row in data.ledger()] == [2, 2]


def test_webdataset_reads_the_shards(dataset, tmp_path) -> None:
    webdataset = pytest.importorskip("webdataset")
    data = dataset([write_video(tmp_path / f"{name}.mp4", num_frames=25) for name in "abc"], per_unit=2)
    data.make()
    urls = str(data.folder / "flow/f/flow-{000000..000001}.tar")
    seen = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in seen] == [row["clip_id"] for unit in (0, 1) for row in data.index(unit)]
    assert [sample["cls"] for sample in seen] == [b"0", b"1", b"2"]
    assert cv2.imdecode(np.frombuffer(seen[0]["x.004.jpg"], np.uint8), cv2.IMREAD_UNCHANGED).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("fields", ["T", "T-1"])
def test_fields_are_tvl1_of_the_source_frames(dataset, tmp_path, fields) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=27)
    data = dataset([video], {"encoding": "npy", "fields": fields, "params": {**FLOW["params"], "theta": 0.2}})
    data.make()
    frames, (stored,) = grays(video), data.fields()
    places = [0, 5, 10, 15, 20, 25][: 6 if fields == "T" else 5]
    expected = [flow_of(frames[a], frames[b], theta=0.2) for a, b in pairwise(places)]
    assert np.array_equal(stored, np.stack(expected).astype(np.float16).astype(np.float32))
    row = data.index()[0]
    assert row["from_pts_s"] == pytest.approx([place / 25 for place in places[:-1]])
    assert row["to_pts_s"] == pytest.approx([place / 25 for place in places[1:]])
    assert row["num_real_fields"] == len(places) - 1


def test_gray_first_then_resize_then_crop(dataset, tmp_path) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=10)
    data = dataset([video], {"encoding": "npy", "short_side": 32, "crop": [24, 30]}, clips={"frames": 2})
    data.make()
    small = [cv2.resize(frame, (42, 32), interpolation=cv2.INTER_LINEAR)[4:28, 6:36] for frame in grays(video)]
    assert np.array_equal(data.fields()[0][0], flow_of(small[0], small[5]).astype(np.float16))


def test_the_size_is_the_clips_own_unless_said(dataset, tmp_path) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=10)
    of_clips = {"frames": 2, "resize": [32, 40], "crop": [24, 32]}
    for of_flow, size in (({}, (24, 32)), ({"crop": [20, 20]}, (20, 20)), ({"short_side": 24}, (24, 32))):
        data = dataset([video], of_flow, clips=of_clips)
        data.make()
        assert data.fields()[0].shape[1:3] == size, of_flow
    assert data.index()[0]["width_px"] == 32  # short_side 24 of 48 x 64, without the clips' crop


def test_own_fps_in_the_same_windows(dataset, tmp_path) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=50)
    data = dataset([video], {"encoding": "npy", "fps": 12.5}, clips={"frames": 4, "stride_s": 0.6})
    data.make()
    rows, frames = data.index(), grays(video)
    with data.store.open("clips/c/_index/000000.parquet") as file:
        of_clips = pq.read_table(file).to_pylist()
    same = ("clip_id", "video_id", "start_s", "center_s", "end_s", "label_ids")
    assert [[row[name] for name in same] for row in rows] == [[row[name] for name in same] for row in of_clips]
    assert rows[1]["from_pts_s"] == pytest.approx([0.6 + 0.08 * k - 0.04 * (k % 1) for k in range(10)], abs=0.021)
    second = [math.floor((0.6 + k / 12.5) * 25 + 1e-9) for k in range(11)]
    assert rows[1]["to_pts_s"] == pytest.approx([place / 25 for place in second[1:]])
    assert np.array_equal(data.fields()[1][9], flow_of(frames[second[9]], frames[second[10]]).astype(np.float16))


# ---------------------------------------------------------------- where the video ends


@pytest.mark.parametrize(
    ("tail", "pairs"),
    [
        ("pad", [(0, 5), (5, 10), (10, 10), (10, 10), (10, 10)]),
        ("loop", [(0, 5), (5, 10), (10, 10), (0, 5), (5, 10)]),
    ],
)
def test_fields_after_the_end(dataset, tmp_path, tail, pairs) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=13)
    data = dataset([video], {"encoding": "npy"}, clips={"tail": tail})
    data.make()
    (row,), (fields,), frames = data.index(), data.fields(), grays(video)
    assert (row["num_real_fields"], len(fields)) == (2, 5)
    assert row["from_pts_s"] == pytest.approx([first / 25 for first, _ in pairs])
    assert row["to_pts_s"] == pytest.approx([second / 25 for _, second in pairs])
    for field, (first, second) in zip(fields, pairs, strict=True):
        assert np.array_equal(field, flow_of(frames[first], frames[second]).astype(np.float16)), (first, second)
        assert (not field.any()) == (first == second)


def test_a_whole_last_window_under_tail_drop_stays(dataset, tmp_path) -> None:
    """Its closing frame would come after the video's end; its clip is whole all the same."""
    data = dataset([write_video(tmp_path / "a.mp4", num_frames=25)], clips={"tail": "drop"})
    data.make()
    assert [(row["num_real_fields"], row["end_s"]) for row in data.index()] == [(4, 1.0)]
    assert [row.status for row in data.ledger()] == ["ok"]


def test_clips_of_one_frame(dataset, tmp_path) -> None:
    paths = [write_video(tmp_path / f"{n}.mp4", num_frames=n) for n in (28, 3, 25)]  # the first has a tail of 0.12 s
    data = dataset(paths)
    data.make()
    some, none, whole = data.ledger()
    assert (some.status, some.reason, some.num_items) == ("partial", "one_frame", 1)
    assert some.message == "1 of its clips holds fewer than two frames, between which no flow can be computed"
    assert (none.status, none.reason, none.num_items) == ("failed", "one_frame", 0)
    assert (whole.status, whole.num_items) == ("ok", 1)
    assert len(data.index()) == 2


# ---------------------------------------------------------------- the ledger


def test_every_bad_input_is_one_row_with_one_sentence(dataset, tmp_path) -> None:
    good = write_video(tmp_path / "good.mp4")
    empty, garbage = tmp_path / "empty.mp4", tmp_path / "garbage.mp4"
    empty.touch()
    garbage.write_bytes(np.random.default_rng(0).bytes(20_000))
    small = write_video(tmp_path / "small.mp4", size=(12, 64))
    paths = [good, empty, tmp_path / "gone.mp4", garbage, small, write_video(tmp_path / "short.mp4", num_frames=6)]
    data = dataset(paths, clips={"tail": "drop"})
    (receipt,) = data.make()
    ledger = data.ledger()
    statuses = ["ok", "failed", "failed", "failed", "failed", "filtered"]
    assert [row.status for row in ledger] == statuses
    assert [row.reason for row in ledger] == ["", "upstream", "upstream", "upstream", "too_small", "upstream"]
    assert ledger[4].message.startswith("its frames are 12 x 64 px")
    assert ledger[5].message == "clips/c: it is shorter than one clip, and tail is drop"
    assert all("\n" not in row.message and bool(row.message) == (row.status != "ok") for row in ledger)
    assert sum(receipt.rows.values()) == len(paths)
    assert {row["video_id"] for row in data.index()} == {"0-good"}


def test_a_video_that_is_another_one_now(dataset, tmp_path) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=50)
    data = dataset([video, write_video(tmp_path / "b.mp4")])
    data.make_clips()
    for num_frames in (30, 60):  # one window fewer, and one more
        write_video(video, num_frames=num_frames)
        data.make()
        changed, other = data.ledger()
        assert (changed.status, changed.reason, changed.num_items) == ("failed", "clips_differ", 0)
        assert "reelmill index" in changed.message
        assert (other.status, other.num_items) == ("ok", 2)
        assert {row["video_id"] for row in data.index()} == {"1-b"}


def test_damage_that_only_the_clips_have_met(dataset, tmp_path) -> None:
    """The last clip is left out for its last frame, which flow at fewer frames a second never looks at."""
    video = write_video(tmp_path / "a.mp4", num_frames=50)
    with av.open(str(video)) as container:
        last = max((p for p in container.demux(video=0) if p.size), key=lambda packet: packet.pts)
        at, size = last.pos, last.size
    data = bytearray(video.read_bytes())
    data[at + 4 : at + size] = b"\xff" * (size - 4)
    video.write_bytes(data)
    data = dataset([video], {"fps": 5}, clips={"frames": 25, "fps": 25, "tail": "drop"})
    data.make()
    (of_clips,) = receipts.read_ledger(data.store, "clips/c", 0)
    (row,) = data.ledger()
    assert (of_clips.status, of_clips.reason, of_clips.num_items) == ("partial", "decode_errors", 1)
    assert (row.status, row.reason, row.num_items) == ("partial", "upstream", 1)
    assert row.message == f"clips/c: {of_clips.message}"
    assert [(r["start_s"], r["num_real_fields"]) for r in data.index()] == [(0.0, 5)]


def test_a_unit_without_one_clip_is_still_complete(dataset, tmp_path) -> None:
    data = dataset([tmp_path / "gone.mp4"])
    (receipt,) = data.make()
    assert receipt.rows["failed"] == 1
    assert data.samples() == {}
    assert data.index() == []


# ---------------------------------------------------------------- the same bytes, whatever happens


def test_twice_the_same_bytes(dataset, tmp_path) -> None:
    paths = [write_video(tmp_path / f"{n}.mp4", num_frames=n) for n in (28, 13, 40)]
    made = []
    for _ in range(2):
        data = dataset(paths, clips={"stride_s": 0.4}, per_unit=2)
        data.make()
        made.append(data.hashes())
    assert made[0] == made[1]
    assert len(made[0]) == 2 * 4 + 1  # two units: shard, index, ledger, receipt; and the card


def test_a_decoder_killed_once_leaves_no_trace(dataset, tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(DOUBLES)
    paths = [write_video(tmp_path / f"{name}.mp4", num_frames=50) for name in ("ordinary", "crash_once")]
    undisturbed, disturbed = dataset(paths), dataset(paths)
    undisturbed.make()
    disturbed.make(module="misbehaving_decoder")
    assert (tmp_path / "crash_once.seen").exists()
    assert disturbed.hashes() == undisturbed.hashes()


@pytest.mark.parametrize(("name", "reason"), [("crash_late", "crashed"), ("spin_late", "stalled")])
def test_a_video_that_dies_half_way_leaves_no_sample(dataset, tmp_path, monkeypatch, name, reason) -> None:
    monkeypatch.syspath_prepend(DOUBLES)
    data = dataset([write_video(tmp_path / f"{stem}.mp4", num_frames=50) for stem in (name, "ordinary")])
    data.make(module="misbehaving_decoder", limits=Limits(stall_s=1))
    assert [(row.status, row.reason, row.num_items) for row in data.ledger()] == [("failed", reason, 0), ("ok", "", 2)]
    assert {row["video_id"] for row in data.index()} == {"1-ordinary"}


# ---------------------------------------------------------------- the stage as the runner sees it


def test_clips_that_are_missing_or_stale(dataset, tmp_path) -> None:
    data = dataset([write_video(tmp_path / "a.mp4", num_frames=10)])
    data.make()
    (data.folder / "clips/c/_index/000000.parquet").unlink()
    with pytest.raises(ReelmillError, match="is missing or damaged"):
        data.make()
    receipts.retract(data.store, "clips/c", 0)
    with pytest.raises(ReelmillError, match=r"clips/c unit 000000 is not made yet"):
        data.make()
    receipts.write_card(data.store, receipts.read_card(data.store, "flow/f").model_copy(update={"fingerprint": "x"}))
    with pytest.raises(ReelmillError, match="its card is of other settings"):
        flow.open_stage(data.product, data.store, Limits())


def test_the_stage_keeps_its_decoder_and_lets_it_go(dataset, tmp_path) -> None:
    data = dataset([write_video(tmp_path / f"{name}.mp4", num_frames=10) for name in "ab"], per_unit=1)
    data.make_clips()
    receipts.write_card(data.store, card_of(data.product, data.store))
    stage = flow.open_stage(data.product, data.store, Limits())
    try:
        stage(data.units[0])
        pid = stage.decoder.pid
        stage(data.units[1])
        assert stage.decoder.pid == pid is not None
    finally:
        stage.close()
    assert stage.decoder.pid is None
    assert [receipts.standing(data.store, data.product, unit) is not None for unit in data.units] == [True, True]


def test_the_card_tells_how(dataset, tmp_path) -> None:
    data = dataset([tmp_path / "a.mp4"], {"bound": 15})
    data.make_clips()
    card = describe(data.product, data.store)
    assert json.loads(json.dumps(card)) == card
    text = json.dumps(card)
    for words in ("colours, gray, resize", "0.299 R", "255 (v + 15) / 30", "v = 30 q / 255 - 15", "num_real_fields"):
        assert words in text, words
    assert card["backend"]["used"] == "opencv"
    assert card["params"]["lambda"] == 0.15
    assert "cv2.imencode" in json.dumps(card["storage"])


def test_flow_begun_on_a_gpu_is_not_gone_on_with_elsewhere(dataset, tmp_path) -> None:
    data = dataset([tmp_path / "a.mp4"])
    data.make_clips()
    card = card_of(data.product, data.store)
    card.details["backend"]["used"] = "cuda"
    receipts.write_card(data.store, card)
    with pytest.raises(ReelmillError, match="begun with backend cuda"):
        flow.open_stage(data.product, data.store, Limits())


def test_a_backend_that_is_missing_here_is_named(dataset, tmp_path, monkeypatch) -> None:
    data = dataset([tmp_path / "a.mp4"])
    data.make_clips()
    receipts.write_card(data.store, card_of(data.product, data.store))
    monkeypatch.setattr("pipeline.flow.opencv.unavailable", lambda: "there is no cv2.optflow here")
    with pytest.raises(ReelmillError, match=r"backend opencv .*no cv2.optflow here\); go on with backend: cpu"):
        flow.open_stage(data.product, data.store, Limits())


def test_cuda_without_a_gpu_is_one_sentence(dataset, tmp_path, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    data = dataset([tmp_path / "a.mp4"], {"backend": "cuda"})
    data.make_clips()
    with pytest.raises(UsageError, match="'cuda' can't be used") as error:
        describe(data.product, data.store)
    assert "\n" not in str(error.value)


def test_what_auto_takes_gives_the_bytes_of_opencv(dataset, tmp_path) -> None:
    paths = [write_video(tmp_path / "a.mp4", num_frames=15)]
    made = []
    for backend in ("auto", "opencv"):
        data = dataset(paths, {"backend": backend, "encoding": "npy"})
        data.make()
        made.append({name: sha for name, sha in data.hashes().items() if not name.endswith("_card.json")})
    assert made[0] == made[1]


def test_real_videos(dataset) -> None:
    if not REAL.exists():
        pytest.skip("the shared test videos are not here")
    names = ["odd/rotated_90.mov", "odd/vfr_header_lies_tree.avi", "odd/corrupted.mp4", "odd/test_non_zero_start.mp4"]
    of_clips = {"frames": 3, "fps": 30, "windows": "uniform", "num_clips": 2, "short_side": 40}
    data = dataset([REAL / name for name in names], clips=of_clips)
    data.make()
    statuses = {Path(row.uri).name: row.status for row in data.ledger()}
    assert statuses.pop("corrupted.mp4") == "partial"
    assert set(statuses.values()) == {"ok"}
    upright = next(row for row in data.index() if row["video_id"] == "0-rotated_90")
    assert (upright["height_px"], upright["width_px"]) == (72, 40)
    assert all(row["from_pts_s"] == sorted(row["from_pts_s"]) for row in data.index())


def test_the_meter_knows_what_a_unit_cost(dataset, metered, tmp_path):
    data = dataset([write_video(tmp_path / "a.mp4")])
    data.make_clips()
    receipts.write_card(data.store, card_of(data.product, data.store))
    stage = flow.open_stage(data.product, data.store, Limits())
    try:
        work = metered(stage, lambda: stage(data.units[0]))
    finally:
        stage.close()
    assert (work.videos, work.items, work.reasons) == (1, 2, {})
    assert work.frames_decoded >= work.frames_used > 0
    assert work.bytes_in > 0
    assert work.source_s == pytest.approx(1.4, abs=0.25)  # 35 frames at 25 fps
    assert work.busy_s > work.reading_s + work.writing_s

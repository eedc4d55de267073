"""The clips stage end to end: real videos in, a tar that webdataset reads, an index and a ledger out."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import receipts
from pipeline.graph import Product
from pipeline.meter import Meter
from pipeline.shards import read_shard
from pipeline.stages import CODE_VERSIONS
from pipeline.stages import spool as spool_module
from pipeline.stages.clips import describe, make_unit, open_stage
from pipeline.store import Store
from pipeline.units import plan_units, write_manifest
from pipeline.video.encode import decode_frames
from pipeline.video.guard import Decoder
from schemas.clips import CLIP_INDEX_SCHEMA
from schemas.config import Clips, Limits
from schemas.errors import StorageError
from schemas.ledger import LedgerRow
from schemas.manifest import MANIFEST_SCHEMA, SEGMENT_FIELDS
from schemas.receipt import Receipt

ROOT = Path(__file__).resolve().parents[3]
REAL = ROOT / "../shared/data/videos"
DOUBLES = ROOT / "tests/pipeline/video"
SETTINGS = {"frames": 5, "fps": 5, "resize": [48, 64]}


def write_video(path: Path, *, num_frames: int = 75, codec: str = "libx264", sound: bool = False) -> Path:
    """25 fps, 64 x 48, red to the left and blue to the right, brighter from frame to frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "4"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        tone = container.add_stream("aac", rate=16000) if sound else None
        for index in range(num_frames):
            pixels = np.zeros((48, 64, 3), np.uint8)
            pixels[:, :32, 0] = pixels[:, 32:, 2] = 100 + 2 * index
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
        if tone is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16000
            container.mux(tone.encode(silence))
            container.mux(tone.encode(None))
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        tone = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux(tone.encode(silence))
        container.mux(tone.encode(None))
    return path


def manifest(paths: list[Path | str], *, segments: list[tuple[float, float, int]] | None = None, **columns: object):
    """One row per path: video_id from the name, label_ids [index]; `columns` replace fields of every row."""
    schema = pa.schema([*MANIFEST_SCHEMA, *(SEGMENT_FIELDS if segments else [])])
    rows = []
    for index, path in enumerate(paths):
        name = Path(str(path)).name.replace(".", "-")
        row = {
            "video_id": f"{index}-{name}",
            "uri": str(path),
            "labels": [f"c{index}"],
            "label_ids": [index],
            **columns,
        }
        if segments:
            starts, ends, labels = zip(*segments, strict=True)
            row |= {"segment_start_s": starts, "segment_end_s": ends, "segment_label_ids": labels}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=schema)


class Dataset:
    """A store with a manifest, and what the stage made in it."""

    def __init__(self, folder: Path, table: pa.Table, settings: dict[str, object], videos_per_unit: int = 100) -> None:
        self.store = Store(str(folder))
        self.folder = folder
        write_manifest(self.store, table)
        self.units = plan_units(table, videos_per_unit)
        spec = Clips.model_validate(settings)
        self.product = Product("clips", "test", spec.model_dump(mode="json"), {}, CODE_VERSIONS["clips"])

    def make(self, *, limits: Limits | None = None, module: str = "pipeline.video.decoder_process") -> list[Receipt]:
        with Decoder(limits or Limits(), module=module) as decoder:
            return [
                make_unit(unit, product=self.product, store=self.store, decoder=decoder, meter=Meter())
                for unit in self.units
            ]

    def samples(self, unit: int = 0) -> dict[str, dict[str, bytes]]:
        with self.store.open(f"clips/test/clips-{unit:06d}.tar") as file:
            return dict(read_shard(file))

    def index(self, unit: int = 0) -> list[dict]:
        table = pq.read_table(self.folder / f"clips/test/_index/{unit:06d}.parquet")
        assert table.schema.remove_metadata().equals(CLIP_INDEX_SCHEMA)
        return table.to_pylist()

    def ledger(self, unit: int = 0) -> list[LedgerRow]:
        return receipts.read_ledger(self.store, "clips/test", unit)

    def hashes(self) -> dict[str, str]:
        root = self.folder / "clips"
        files = (path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Dataset]:
    def make(paths: list[Path | str], settings: dict[str, object] | None = None, **columns) -> Dataset:
        folder = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        per_unit = columns.pop("videos_per_unit", 100)
        return Dataset(folder, manifest(paths, **columns), {**SETTINGS, **(settings or {})}, per_unit)

    return make


# ---------------------------------------------------------------- what a shard holds


@pytest.mark.parametrize("encoding", ["jpeg", "mp4", "npy"])
def test_shard_index_and_ledger_say_the_same(dataset, tmp_path, encoding):
    data = dataset(
        [write_video(tmp_path / "a.mp4"), write_video(tmp_path / "b.avi", codec="mpeg4")], {"encoding": encoding}
    )
    (receipt,) = data.make()
    assert receipt.items == 6
    assert receipt.rows == {"ok": 2, "partial": 0, "failed": 0, "filtered": 0}
    samples, index = data.samples(), data.index()
    assert list(samples) == [row["clip_id"] for row in index]
    frames = {"jpeg": [f"{k:03d}.jpg" for k in range(5)], "mp4": ["mp4"], "npy": ["npy"]}[encoding]
    for row, members in zip(index, samples.values(), strict=True):
        assert list(members) == [*frames, "cls", "json"]
        assert json.loads(members["json"]) == row
        assert members["cls"] == str(row["label_ids"][0]).encode()
        pixels = decode_frames(members, encoding)
        assert pixels.shape == (5, row["height_px"], row["width_px"], 3) == (5, 48, 64, 3)
        wanted = [round(100 + 50 * time_s) for time_s in row["frame_pts_s"]]
        assert np.abs(pixels[:, 24, 8, 0] - np.array(wanted)).max() <= 5  # red on the left
        assert np.abs(pixels[:, 24, 56, 2] - np.array(wanted)).max() <= 5  # blue on the right
        assert pixels[:, 24, 8, 2].max() < 20
    assert [(row["start_s"], row["center_s"], row["end_s"]) for row in index] == [
        (0, 0.5, 1),
        (1, 1.5, 2),
        (2, 2.5, 3),
    ] * 2
    assert [row.num_items for row in data.ledger()] == [3, 3]


def test_webdataset_reads_the_shards(dataset, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    paths = [write_video(tmp_path / f"{name}.mp4", num_frames=30) for name in "abc"]
    data = dataset(paths, videos_per_unit=2)
    data.make()
    urls = str(data.folder / "clips/test/clips-{000000..000001}.tar")
    seen = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in seen] == [row["clip_id"] for unit in (0, 1) for row in data.index(unit)]
    assert [sample["cls"] for sample in seen] == [b"0", b"0", b"1", b"1", b"2", b"2"]
    picture = cv2.imdecode(np.frombuffer(seen[0]["000.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (48, 64, 3)
    assert picture[24, 8, 2] > 80 > 30 > picture[24, 8, 0]  # BGR: red on the left


def test_cls_is_there_for_exactly_one_label(dataset, tmp_path):
    video = write_video(tmp_path / "a.mp4", num_frames=25)
    for label_ids, expected in (([], None), ([7], b"7"), ([7, 9], None)):
        data = dataset([video], label_ids=label_ids)
        data.make()
        (members,) = data.samples().values()
        assert members.get("cls") == expected
        assert data.index()[0]["label_ids"] == label_ids


def test_segments_bring_their_own_labels(dataset, tmp_path):
    video = write_video(tmp_path / "a.mp4")
    data = dataset([video], {"windows": "segment"}, segments=[(0.0, 1.0, 11), (1.5, 2.5, 12)])
    data.make()
    assert [(row["start_s"], row["label_ids"]) for row in data.index()] == [(0.0, [11]), (1.5, [12])]
    assert [members["cls"] for members in data.samples().values()] == [b"11", b"12"]


def test_a_unit_without_one_clip_is_still_complete(dataset, tmp_path):
    data = dataset([tmp_path / "gone.mp4"])
    (receipt,) = data.make()
    assert receipt.rows["failed"] == 1
    assert data.samples() == {}
    assert data.index() == []


# ---------------------------------------------------------------- the ledger


def bad_inputs(folder: Path) -> dict[str, tuple[Path, str, str]]:
    """name -> (path, status, reason)"""
    folder.mkdir()
    good = write_video(folder / "good.mp4")
    whole = write_video(folder / "whole.avi", codec="mpeg4").read_bytes()
    empty, text, locked = folder / "empty.mp4", folder / "text.mp4", folder / "locked.mp4"
    empty.touch()
    text.write_text("this is not a video\n" * 100)
    garbage, cut = folder / "garbage.mp4", folder / "cut.avi"
    garbage.write_bytes(np.random.default_rng(0).bytes(20_000))
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    headless = folder / "headless.mp4"
    headless.write_bytes(good.read_bytes()[: good.stat().st_size // 2])  # moov comes last, and is cut off
    locked.write_bytes(good.read_bytes())
    return {
        "good": (good, "ok", ""),
        "empty": (empty, "failed", "empty_file"),
        "sound": (write_sound(folder / "sound.mp4"), "failed", "no_video"),
        "text": (text, "failed", ""),
        "garbage": (garbage, "failed", ""),
        "headless": (headless, "failed", "unreadable"),
        "cut": (cut, "partial", "truncated"),
        "gone": (folder / "gone.mp4", "failed", "missing"),
        "folder": (folder, "failed", "unreadable"),
        "after": (write_video(folder / "after.mp4"), "ok", ""),
    }


def test_every_bad_input_is_one_row_with_one_sentence(dataset, tmp_path):
    inputs = bad_inputs(tmp_path / "in")
    data = dataset([path for path, _, _ in inputs.values()])
    (receipt,) = data.make()
    ledger = data.ledger()
    for (name, (path, status, reason)), row in zip(inputs.items(), ledger, strict=True):
        assert (row.uri, row.status) == (str(path), status), name
        assert row.reason == reason or not reason, name
        assert bool(row.reason) == bool(row.message) == (status != "ok"), name
        assert "\n" not in row.message
        assert len(row.message) < 300
        assert (row.num_items > 0) == (status in ("ok", "partial")), name
    assert sum(receipt.rows.values()) == len(inputs)
    assert receipt.items == len(data.index()) == sum(row.num_items for row in ledger)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_one_may_not_read_is_a_row(dataset, tmp_path):
    locked = write_video(tmp_path / "locked.mp4")
    locked.chmod(0)
    data = dataset([locked])
    data.make()
    assert data.ledger()[0].reason == "unreadable"


def test_a_video_too_short_for_tail_drop_is_filtered(dataset, tmp_path):
    data = dataset([write_video(tmp_path / "a.mp4", num_frames=10)], {"tail": "drop"})
    data.make()
    (row,) = data.ledger()
    assert (row.status, row.reason, row.num_items) == ("filtered", "too_short", 0)
    assert "shorter than one clip" in row.message


@pytest.mark.parametrize("damage", ["cut", "holes"])
@pytest.mark.parametrize("num_frames", [20, 30])
def test_a_damaged_video_without_a_clip_has_failed(dataset, tmp_path, damage, num_frames):
    path = write_video(tmp_path / "a.avi", num_frames=num_frames, codec="mpeg4")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) * 3 // 4])
    else:
        with av.open(str(path)) as container:
            places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
        for at, size in places[8:]:
            data[at : at + size] = bytes(size)
        path.write_bytes(data)
    made = dataset([path], {"tail": "drop"})
    made.make()
    (row,) = made.ledger()
    if damage == "holes" and num_frames == 20:  # too short before it was damaged, and nobody decodes it
        assert (row.status, row.reason) == ("filtered", "too_short")
    else:
        assert (row.status, row.reason) == ("failed", "truncated" if damage == "cut" else "decode_errors")
    assert made.index() == []


def test_a_clock_that_leaps_is_a_partial_row(dataset, tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index + 10**8 * (index == 49), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = dataset([path])
    data.make()
    (row,) = data.ledger()
    assert (row.status, row.reason, row.num_items) == ("partial", "clock_jumps", 2)
    assert "a frame that stays" in describe(data.product, data.store)["sampling"]["gaps"]


def test_what_a_transform_refuses_is_a_row(dataset, tmp_path):
    data = dataset([write_video(tmp_path / "a.mp4")], {"resize": None, "crop": [100, 100]})
    data.make()
    assert data.ledger()[0].reason == "crop_does_not_fit"


def test_real_odd_videos(dataset, tmp_path):
    if not REAL.exists():
        pytest.skip("the shared test videos are not here")
    paths = sorted((REAL / "odd").iterdir())
    data = dataset(paths, {"resize": None, "short_side": 64, "frames": 4, "fps": 2})
    data.make()
    rows = {Path(row.uri).name: row for row in data.ledger()}
    assert {name for name, row in rows.items() if row.status in ("failed", "filtered")} == set()
    assert {name for name, row in rows.items() if row.status == "partial"} == {"corrupted.mp4"}
    sizes = {row["video_id"]: (row["height_px"], row["width_px"]) for row in data.index()}
    for name in ("rotated_90.mov", "rotated_270.mov"):
        assert sizes[rows[name].video_id] == (114, 64)


# ---------------------------------------------------------------- the same bytes, whatever happens


def test_twice_the_same_bytes(dataset, tmp_path):
    paths = [path for path, _, _ in bad_inputs(tmp_path / "in").values()]
    made = []
    for per_unit in (4, 4):
        data = dataset(paths, videos_per_unit=per_unit)
        data.make()
        made.append(data.hashes())
    assert made[0] == made[1]
    assert len(made[0]) == 3 * 4  # three units: shard, index, ledger, receipt


def test_a_decoder_killed_once_leaves_no_trace(dataset, tmp_path, monkeypatch):
    """The first decoder dies after the video's first clip; who can say whether the video or a person did it?"""
    monkeypatch.syspath_prepend(DOUBLES)
    paths = [write_video(tmp_path / f"{name}.mp4") for name in ("ordinary", "crash_once")]
    disturbed = dataset(paths)
    disturbed.make(module="misbehaving_decoder")
    assert (tmp_path / "crash_once.seen").exists()
    undisturbed = dataset(paths)
    undisturbed.make()
    assert disturbed.hashes() == undisturbed.hashes()
    assert [row.num_items for row in disturbed.ledger()] == [3, 3]


@pytest.mark.parametrize(("name", "reason"), [("crash_late", "crashed"), ("spin_late", "stalled")])
def test_a_video_that_dies_half_way_leaves_no_clip(dataset, tmp_path, monkeypatch, name, reason):
    monkeypatch.syspath_prepend(DOUBLES)
    paths = [write_video(tmp_path / f"{stem}.mp4") for stem in (name, "ordinary")]
    data = dataset(paths)
    (receipt,) = data.make(module="misbehaving_decoder", limits=Limits(stall_s=1))
    assert [(row.status, row.reason, row.num_items) for row in data.ledger()] == [("failed", reason, 0), ("ok", "", 3)]
    assert receipt.items == 3
    assert {row["video_id"] for row in data.index()} == {"1-ordinary-mp4"}


def test_a_large_video_spills_to_disk_and_leaves_nothing_there(dataset, tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4")
    in_memory = dataset([video], {"encoding": "npy"})
    in_memory.make()
    monkeypatch.setattr(spool_module, "SPOOL_BYTES", 1000)
    spilled = dataset([video], {"encoding": "npy"})
    spilled.make()
    assert spilled.hashes() == in_memory.hashes()
    assert list((spilled.folder / "clips/test/_tmp").iterdir()) == []


# ---------------------------------------------------------------- the output's own troubles


LARGE = {"encoding": "npy", "stride_s": 0.1, "resize": [200, 200]}  # 18 MB of clips


@pytest.mark.parametrize("spool_bytes", [1 << 30, 1000])
def test_a_refused_write_stops_with_one_sentence(dataset, tmp_path, monkeypatch, spool_bytes):
    """A limit on file sizes stands in for a full disk, in the shard and in the spool: the write fails likewise."""
    monkeypatch.setattr(spool_module, "SPOOL_BYTES", spool_bytes)
    data = dataset([write_video(tmp_path / "a.mp4")], LARGE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"file too large\); make room"):
            data.make()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert receipts.load(data.store, "clips/test", 0) is None
    assert [path.name for path in (data.folder / "clips/test").rglob("*") if path.is_file()] == []
    data.make()
    assert data.ledger()[0].status == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small disk")
def test_a_full_disk_stops_with_one_sentence(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        data = Dataset(disk / "out", manifest([write_video(tmp_path / "a.mp4")]), {**SETTINGS, **LARGE})
        with pytest.raises(StorageError, match="no space left on device"):
            data.make()
        assert [path.name for path in (disk / "out/clips").rglob("*") if path.is_file()] == []
    finally:
        # lazily: the manifest stays open in a cache of pipeline.units
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_an_output_folder_that_can_t_be_made(dataset, tmp_path):
    data = dataset([write_video(tmp_path / "a.mp4")])
    (data.folder / "clips").write_text("in the way")
    with pytest.raises(StorageError, match="can't write here"):
        data.make()


# ---------------------------------------------------------------- the stage as the runner sees it


def test_the_stage_keeps_its_decoder_and_lets_it_go(dataset, tmp_path):
    data = dataset([write_video(tmp_path / f"{name}.mp4", num_frames=25) for name in "ab"], videos_per_unit=1)
    stage = open_stage(data.product, data.store, Limits())
    try:
        stage(data.units[0])
        pid = stage.decoder.pid
        stage(data.units[1])
        assert stage.decoder.pid == pid
    finally:
        stage.close()
    assert stage.decoder.pid is None
    assert not Path(f"/proc/{pid}").exists()
    assert [receipts.standing(data.store, data.product, unit) is not None for unit in data.units] == [True, True]


def test_the_card_tells_how(dataset, tmp_path):
    data = dataset([tmp_path / "a.mp4"], {"stride_s": 0.5, "tail": "loop"})
    card = describe(data.product, data.store)
    assert json.loads(json.dumps(card)) == card
    text = json.dumps(card)
    for words in ("every 0.5 s", "over again", "INTER_LINEAR", "48 x 64", "4:2:0", "presentation timestamps"):
        assert words in text, words


def test_paths_other_tools_would_stumble_over(dataset, tmp_path):
    names = ["späte Züge #1 100%.mp4", "a:b.mp4", "-dash.mp4"]
    data = dataset([write_video(tmp_path / "in" / name, num_frames=25) for name in names], label_ids=[1])
    data.make()
    assert [row.status for row in data.ledger()] == ["ok"] * 3


# ---------------------------------------------------------------- what it cost


def test_the_meter_knows_what_a_unit_cost(dataset, metered, tmp_path):
    path = write_video(tmp_path / "a.mp4")
    data = dataset([path, tmp_path / "missing.mp4"])
    stage = open_stage(data.product, data.store, Limits())
    try:
        work = metered(stage, lambda: stage(data.units[0]))
    finally:
        stage.close()
    assert (work.videos, work.items, work.reasons) == (2, 3, {"missing": 1})
    assert work.frames_used == 15
    assert work.frames_decoded >= work.frames_used
    assert work.bytes_in >= path.stat().st_size
    assert work.source_s == pytest.approx(3, abs=0.3)

"""Training a network on stored clips: it learns motion, its checkpoint is a backbone, and a kill changes no byte."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from clip_dataset import FRAMES, SIZE, ClipDataset, Video, videos_of
from safetensors.torch import load_file

from pipeline import backbones, receipts
from pipeline.backbones.identity import file_sha256
from pipeline.backbones.inspection import inspect
from pipeline.graph import Product
from pipeline.shards import read_sample
from pipeline.stages import CODE_VERSIONS, card_of, features
from pipeline.training import loop
from pipeline.training.clips.task import ClipTask
from pipeline.training.evaluate import evaluate_head
from pipeline.training.head import train_head
from pipeline.training.loop import EpochReport, StepReport
from pipeline.training.task import Share
from schemas.config import Features, Limits
from schemas.errors import ReelmillError, StorageError, UsageError
from schemas.receipt import Receipt

SPLITS = ("train", "train", "val", "test")
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 8, "lr": 0.01}


def train(dataset: ClipDataset, product: Product, report: Any = lambda news: None) -> Receipt:
    return train_head(product, dataset.whole, dataset.store, feature_units=dataset.units, report=report)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def metrics_of(dataset: ClipDataset, name: str = "net") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dataset.store.read(f"heads/{name}/metrics.json"))
    return found


def best(dataset: ClipDataset, name: str = "net") -> str:
    return str(dataset.root / f"heads/{name}/checkpoints/best.safetensors")


# ---------------------------------------------------------------- it learns


@pytest.mark.parametrize("kind", ["clips", "flow"])
def test_a_network_from_scratch_learns_two_motions(clips: ClipDataset, kind: str) -> None:
    clips.write(videos_of(64, splits=SPLITS), kind=kind)
    receipt = train(clips, clips.head(epochs=8, lr=0.02))
    metrics = metrics_of(clips)
    assert metrics["headline"]["top-1"] == metrics["top1"] >= 0.9
    assert metrics["evaluated_on"] == "test"
    assert metrics["num_videos"] == {"train": 32, "val": 16, "test": 16}
    assert metrics["num_clips"] == {"train": 64, "val": 32, "test": 32}
    assert metrics["left_out_clips"] == {}
    assert receipt.rows == {"ok": 64, "partial": 0, "failed": 0, "filtered": 0}
    assert receipt.items == 128
    lines = clips.store.read("heads/net/predictions.csv").decode().splitlines()
    assert lines[0].startswith("video_id,split,clips,label,predicted,top1,score1,top2,score2")
    assert len(lines) == 1 + 64
    assert lines[1].startswith("video-000,train,2,left,left,left,")


def test_videos_without_clips_are_counted_beside_the_metric(clips: ClipDataset) -> None:
    videos = [*videos_of(16, splits=SPLITS), Video("lost", (0,), split="test", status="failed")]
    clips.write([*videos, Video("odd", (1,), [(), (1,), (0, 1)], split="train")])
    train(clips, clips.head(**QUICK))
    metrics = metrics_of(clips)
    assert metrics["num_annotated"]["test"] == metrics["num_videos"]["test"] + 1
    assert metrics["models"]["clip_classifier"]["splits"]["test"]["annotated_videos"] == 5
    assert metrics["missing"] == ["lost: clips/rgb: truncated"]
    assert metrics["left_out_clips"] == {"no_label": 1, "multi_label": 1}


def test_probabilities_of_a_video_are_the_mean_over_its_clips(clips: ClipDataset) -> None:
    videos = videos_of(12)
    videos[4].clips = [(0,)] * 3
    clips.write(videos)
    task = clips.task(batch_size=3)
    net = task.open_model(task.settings, seed=0).requires_grad_(False)
    found, loss = task._predict(task.settings, net, "val")
    losses: list[float] = []
    expected: dict[int, list[np.ndarray]] = {}
    for index in task.data.clips_of("val"):
        video = int(task.data.group[index])
        logits = net(net.spec.preprocessing.normalise(_frames(clips, task, int(index))))
        label = torch.tensor([task.data.labels[video]])
        losses.append(float(torch.nn.functional.cross_entropy(logits, label)))
        expected.setdefault(video, []).append(logits.softmax(1)[0].numpy())
    assert [len(one) for one in expected.values()] == [3, 2, 2, 2]
    np.testing.assert_allclose(found, [np.mean(one, axis=0) for one in expected.values()], atol=1e-6)
    assert loss == pytest.approx(float(np.mean(losses)), rel=1e-5)


def _frames(dataset: ClipDataset, task: ClipTask, index: int) -> torch.Tensor:
    clip = task.data.clips[index]
    with dataset.store.open(f"clips/rgb/clips-{clip.unit:06d}.tar") as shard:
        frames = task.upstream.decode(read_sample(shard, clip.span))
    return torch.from_numpy(frames)[None]


# ---------------------------------------------------------------- its checkpoint is a backbone


def test_the_checkpoint_is_a_backbone_s_file(clips: ClipDataset) -> None:
    clips.write(videos_of(24))
    train(clips, clips.head(model_options={"fusion": "late", "frames": FRAMES}, **QUICK))
    net = backbones.build("small_rgb", weights=best(clips))
    assert net.options == {"fusion": "late", "frames": FRAMES}
    assert net.spec.num_classes == 2
    assert net.weights.unused == ()
    assert all(value.dtype == torch.float32 for value in load_file(best(clips)).values())
    (found,) = inspect(Path(best(clips)))["models"]
    assert (found["model"], found["num_classes"], found["options"]) == ("small_rgb", 2, net.options)
    about = json.loads(clips.store.read("heads/net/checkpoints/best.json"))
    assert about["backbone"] == "small_rgb"
    assert about["options"] == net.options
    assert about["input"] == {"frames": FRAMES, "size": list(SIZE), "fps": 5.0}
    assert about["classes"] == [{"label_id": 0, "label": "left"}, {"label_id": 1, "label": "right"}]
    assert about["started_from"]["format"] == "random"


@pytest.mark.parametrize("kind", ["clips", "flow"])
def test_the_features_section_takes_it_and_gives_the_same_answers(clips: ClipDataset, kind: str) -> None:
    """Logits from the features stage, their softmax averaged over a video's clips: what predictions.csv says."""
    upstream = clips.write(videos_of(24), kind=kind)
    crop = {"crop": [32, 36]}
    train(clips, clips.head(preprocess=crop, **QUICK))
    weights = best(clips)
    section = Features.model_validate(
        {
            "from": upstream.path,
            "model": "small_rgb" if kind == "clips" else "small_flow",
            "weights": weights,
            "layer": "logits",
            "precision": "fp32",
            "preprocess": crop,
        }
    )
    plain = section.model_dump(mode="json", by_alias=True)
    sha256 = backbones.weights_sha256(section.model, weights)
    assert sha256 == file_sha256(weights)
    product = Product("features", "f", plain, {upstream.path: upstream.fingerprint}, CODE_VERSIONS["features"], sha256)
    card = card_of(product, clips.store)
    assert card.details["weights"]["sha256"] == sha256
    assert card.details["dim"] == 2
    receipts.write_card(clips.store, card)
    threads = torch.get_num_threads()
    stage = features.open_stage(product, clips.store, Limits())
    for unit in clips.units:
        stage(unit)
    stage.close()
    torch.set_num_threads(threads)
    shares: dict[str, list[np.ndarray]] = {}
    for row in pq.read_table(clips.store.path("features/f")).to_pylist():
        shares.setdefault(row["video_id"], []).append(torch.tensor(row["embedding"]).softmax(0).numpy())
    lines = clips.store.read("heads/net/predictions.csv").decode().splitlines()[1:]
    assert len(lines) == len(shares) == 24
    for line in lines:
        video_id, _, _, _, predicted, _, score, *_ = line.split(",")
        mean = np.mean(shares[video_id], axis=0)
        assert ("left", "right")[int(mean.argmax())] == predicted
        assert float(score) == pytest.approx(float(mean.max()), abs=1e-5)


def test_evaluation_computes_the_numbers_again(clips: ClipDataset, tmp_path: Path) -> None:
    clips.write(videos_of(24))
    start = backbones.build("small_rgb", weights="random:3", options={"num_classes": 2})
    backbones.save(start, tmp_path / "start.safetensors")
    product = clips.head(weights=str(tmp_path / "start.safetensors"), **QUICK)
    train(clips, product)
    (tmp_path / "start.safetensors").rename(tmp_path / "moved.safetensors")
    moved = clips.head(weights=str(tmp_path / "moved.safetensors"), **QUICK)
    assert moved.fingerprint == product.fingerprint
    for asked, split in ((None, "val"), ("train", "train")):
        found = evaluate_head(moved, clips.whole, clips.store, feature_units=clips.units, split=asked)
        assert found["split"] == split
        stored = metrics_of(clips)["models"]["clip_classifier"]["splits"][split]
        assert found["models"]["clip_classifier"] == stored


# ---------------------------------------------------------------- where it starts


def test_another_number_of_classes_keeps_all_but_the_classifier(clips: ClipDataset, tmp_path: Path) -> None:
    clips.write(videos_of(24, num_classes=3))
    start = backbones.build("small_rgb", weights="random:3", options={"num_classes": 7})
    _disturb(start)
    backbones.save(start, tmp_path / "start.safetensors")
    task = clips.task(weights=str(tmp_path / "start.safetensors"))
    net = task.open_model(task.settings, seed=5)
    assert net.spec.num_classes == 3
    of_start = start.state_dict()
    for name, value in net.state_dict().items():
        if name.startswith("logits."):
            assert value.shape[0] == 3
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(value, of_start[name]), name
    other = clips.task(weights=str(tmp_path / "start.safetensors")).open_model(task.settings, seed=6)
    assert not torch.equal(other.state_dict()["logits.weight"], net.state_dict()["logits.weight"])


def _disturb(net: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape, generator=generator))


def test_as_many_classes_keep_the_classifier_too(clips: ClipDataset, tmp_path: Path) -> None:
    clips.write(videos_of(24))
    start = backbones.build("small_rgb", weights="random:3", options={"num_classes": 2, "fusion": "early", "frames": 6})
    backbones.save(start, tmp_path / "start.safetensors")
    task = clips.task(weights=str(tmp_path / "start.safetensors"))
    net = task.open_model(task.settings, seed=5)
    assert net.options == {"fusion": "early", "frames": 6}
    of_start = start.state_dict()
    assert all(torch.equal(value, of_start[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_what_a_training_made_another_starts_from(clips: ClipDataset) -> None:
    clips.write(videos_of(24))
    train(clips, clips.head(**QUICK))
    news: list[Any] = []
    train(clips, clips.head("tuned", weights=best(clips), epochs=1, lr=1e-5, freeze=["conv4b"]), news.append)
    about = json.loads(clips.store.read("heads/tuned/checkpoints/best.json"))
    assert about["started_from"] == {"sha256": file_sha256(best(clips)), "format": "reelmill"}
    assert about["frozen"][-2:] == ["conv4b.conv", "conv4b.bn"]
    before, after = load_file(best(clips)), load_file(best(clips, "tuned"))
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"logits.weight", "logits.bias"}, "weights and statistics of frozen layers are the checkpoint's"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "frames", "stored", "options"),
    [
        ("c3d", 16, (114, 120), {}),
        ("i3d_rgb", 9, (72, 80), {"preprocess": {"resize": "none", "crop": [64, 64]}}),
        ("i3d_flow", 9, (64, 64), {"preprocess": {"resize": "none", "crop": "none"}}),
        ("i3d_r50", 4, (72, 80), {"preprocess": {"resize": "none", "crop": [64, 64]}, "freeze": ["res2"]}),
    ],
)
def test_the_published_architectures_learn_from_a_batch(
    clips: ClipDataset, model: str, frames: int, stored: tuple[int, int], options: dict[str, Any]
) -> None:
    """Gradients reach every parameter that is not frozen, and a step down them lowers the loss of the same clips."""
    clips.frames = frames
    videos = [Video(f"v{n}", (n % 2,), split="train" if n < 2 else "val", size=stored) for n in range(4)]
    for video in videos:
        video.clips = [video.label_ids]
    clips.write(videos, kind="flow" if model == "i3d_flow" else "clips")
    task = clips.task(model=model, batch_size=2, augment={"crop_scale": [1, 1]}, **options)
    net = task.open_model(task.settings, seed=0).train()
    (batch,) = task.train_batches(task.settings, net, Share(seed=0, epoch=0))
    learnt = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    before = task.losses(net, net, batch).mean()
    before.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learnt.values())
    torch.optim.SGD(learnt.values(), lr=1e-6 if model == "c3d" else 1e-3).step()
    with torch.no_grad():
        assert task.losses(net, net, batch).mean() < before


# ---------------------------------------------------------------- precision, schedules, the same bytes


def test_bf16_is_arithmetic_alone(clips: ClipDataset) -> None:
    clips.write(videos_of(24))
    train(clips, clips.head(precision="bf16", epochs=1))
    assert {value.dtype for value in load_file(best(clips)).values()} == {torch.float32}
    full, half = (clips.task(weights=best(clips), precision=which) for which in ("fp32", "bf16"))
    net, frames = full.open_model(full.settings, seed=0).eval(), _frames(clips, full, 3)
    with torch.no_grad():
        exact, rounded = (task._logits(net, net, frames) for task in (full, half))
    assert rounded.dtype == exact.dtype == torch.float32
    assert 0 < float((rounded - exact).norm()) < 0.05 * float(exact.norm())


@pytest.mark.parametrize(("optimizer", "schedule"), [("sgd", "cosine"), ("adamw", "step")])
def test_stopped_inside_an_epoch_it_goes_on_to_the_same_bytes(
    clips: ClipDataset, monkeypatch: pytest.MonkeyPatch, optimizer: str, schedule: str
) -> None:
    """Weights, statistics of batch norms, the optimizer's state and the order of clips are all restored."""
    clips.write(videos_of(24))
    augment = {"crop_scale": [0.7, 1.0], "flip": True, "brightness": 0.2}
    product = clips.head(optimizer=optimizer, schedule=schedule, augment=augment, epochs=3, lr=0.003, warmup_epochs=1)
    train(clips, product)
    undisturbed = tree(clips.root / "heads/net")
    clips.store.delete_folder("heads/net")
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    losses, steps = ClipTask.losses, []

    def failing(self: ClipTask, *args: Any) -> Any:
        steps.append(1)
        if len(steps) in (2, 7):  # in the first and in the second epoch, of four steps each
            raise KeyboardInterrupt
        return losses(self, *args)

    monkeypatch.setattr(ClipTask, "losses", failing)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(clips, product)
    train(clips, product)
    assert len(steps) == 3 * 4 + 2, "no step was taken twice"
    assert tree(clips.root / "heads/net") == undisturbed


def test_other_seeds_are_other_orders_and_crops(clips: ClipDataset) -> None:
    clips.write(videos_of(24))
    curves = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(clips, clips.head(name, seed=seed, epochs=1))
        curves.append(clips.store.read(f"heads/{name}/curves.csv"))
    assert curves[0] == curves[1] != curves[2]


def test_long_epochs_tell_of_their_steps(clips: ClipDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SHOW_EVERY_S", 0)
    clips.write(videos_of(24))
    news: list[Any] = []
    train(clips, clips.head(epochs=1), news.append)
    steps = [one for one in news if isinstance(one, StepReport)]
    assert [(one.step, one.steps, one.noun) for one in steps] == [(k, 4, "clips") for k in (1, 2, 3, 4)]
    assert all(one.items_per_s > 0 for one in news)
    assert isinstance(news[-1], EpochReport)


# ---------------------------------------------------------------- bad input


def refused(dataset: ClipDataset, **settings: Any) -> str:
    with pytest.raises(ReelmillError) as error:
        train(dataset, dataset.head(**settings))
    assert "\n" not in str(error.value)
    assert not (dataset.root / "heads").exists(), "nothing is left of what was refused"
    return str(error.value)


def test_what_the_network_can_not_take_is_said_before_training(clips: ClipDataset) -> None:
    clips.write(videos_of(12))
    assert refused(clips, model="c3d") == "heads/net: c3d takes clips of 16 frames, got 6"
    late = {"fusion": "late", "frames": 8}
    assert refused(clips, model_options=late) == "heads/net: small_rgb takes clips of 8 frames, got 6"
    assert refused(clips, preprocess={"crop": [64, 64]}).startswith(
        "heads/net: a crop of 64×64 (height×width) does not fit inside frames of 32×40"
    )
    assert refused(clips, model="small_flow") == "heads/net: flow frames are (T, H, W, 2), got (1, 32, 40, 3)"
    assert refused(clips, freeze=["conv9"]).startswith("freeze: small_rgb has no map 'conv9'; it has conv1, conv2,")
    assert refused(clips, model_options={"num_classes": 9}) == (
        "heads/net: model_options.num_classes is for features; here it is the number of the clips' classes; drop it"
    )


def test_flow_of_another_size_than_the_recipe_wants_is_one_sentence(clips: ClipDataset) -> None:
    clips.write(videos_of(12), kind="flow")
    assert "flow is not resized after it was computed" in refused(clips, preprocess={"resize": [48, 48]})
    assert refused(clips, model="small_rgb") == "heads/net: rgb frames are (T, H, W, 3), got (1, 32, 40, 2)"


def test_clips_of_several_sizes_need_a_crop(clips: ClipDataset) -> None:
    videos = videos_of(12)
    videos[3].size = (40, 32)
    clips.write(videos)
    assert refused(clips) == (
        "heads/net: its clips are of several sizes (32×40, 40×32), and a batch takes one; set preprocess.crop here, or "
        "resize in the clips"
    )
    train(clips, clips.head(preprocess={"crop": [32, 32]}, epochs=1))
    assert json.loads(clips.store.read("heads/net/checkpoints/best.json"))["input"]["size"] == [32, 32]


def test_weights_of_another_model_are_refused(clips: ClipDataset, tmp_path: Path) -> None:
    clips.write(videos_of(12))
    start = backbones.build("small_flow", weights="random:3")
    backbones.save(start, tmp_path / "flow.safetensors")
    with pytest.raises(ReelmillError, match="small_flow"):
        train(clips, clips.head(weights=str(tmp_path / "flow.safetensors")))
    with pytest.raises(UsageError, match=r"can't read this file"):
        backbones.weights_sha256("small_rgb", str(tmp_path / "nothing.safetensors"))


def test_a_card_of_other_settings_is_refused(clips: ClipDataset) -> None:
    product = clips.write(videos_of(12))
    card = receipts.read_card(clips.store, product.path)
    receipts.write_card(clips.store, card.model_copy(update={"fingerprint": "1" * 64}))
    assert refused(clips) == "clips/rgb: its card is of other settings; run the whole config again"


def test_a_sample_that_is_damaged_stops_the_training_with_its_name(clips: ClipDataset) -> None:
    clips.write(videos_of(12))
    path = clips.root / "clips/rgb/clips-000001.tar"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\xff\xd8\xff", b"\0\0\0", 1))
    with pytest.raises(StorageError, match=r"^clips/rgb: clip video-005_0 can't be used: "):
        train(clips, clips.head(epochs=1))


def test_training_that_diverges_says_so(clips: ClipDataset) -> None:
    clips.write(videos_of(12))
    with pytest.raises(ReelmillError, match=r"^heads/net: training the clip_classifier diverged in epoch \d"):
        train(clips, clips.head(lr=1e18, epochs=4))


# ---------------------------------------------------------------- kill -9


@pytest.mark.slow
def test_killed_inside_epochs_it_ends_with_the_same_bytes(clips: ClipDataset, killed: Any) -> None:
    """SIGKILL of a real process after some steps, wherever it then is: computing, decoding ahead, or writing."""
    clips.write(videos_of(24))
    product = clips.head(epochs=3, batch_size=4, augment={"flip": True, "contrast": 0.3})
    train(clips, product)
    undisturbed = tree(clips.root / "heads/net")
    clips.store.delete_folder("heads/net")
    luck = random.Random(3)
    seen = killed.train(clips, product, [luck.randrange(2, 12) for _ in range(2)], steps=True)
    receipts.sweep(clips.store, product.path)  # as each run does
    assert tree(clips.root / "heads/net") == undisturbed
    told = [line for line in seen if line.startswith("step")]
    assert len(told) <= 3 * 8 + 2, "it went on where it was: at most the step in hand came twice"


# ---------------------------------------------------------------- two workers


def _curve(dataset: ClipDataset, name: str = "net") -> list[list[float]]:
    lines = dataset.store.read(f"heads/{name}/curves.csv").decode().splitlines()[1:]
    return [[float(cell) for cell in line.split(",")] for line in lines]


@pytest.mark.slow
def test_two_workers_train_what_one_does(clips: ClipDataset, killed: Any, tmp_path: Path) -> None:
    """With batch norms that learn, and a last batch of one clip."""
    clips.write(videos_of(21))
    product = clips.head(batch_size=9, epochs=2)
    train(clips, product)
    alone = _curve(clips)
    clips.store.delete_folder("heads/net")
    found = killed.train_on_two(clips, product, tmp_path / "meeting")
    assert found == [(0, 8), (0, 8)]
    for one, two in zip(alone, _curve(clips), strict=True):
        assert one == pytest.approx(two, abs=1e-4)


@pytest.mark.slow
def test_a_worker_that_dies_inside_an_epoch_changes_no_byte(clips: ClipDataset, killed: Any, tmp_path: Path) -> None:
    clips.write(videos_of(24))
    product = clips.head(augment={"flip": True}, epochs=2)
    assert killed.train_on_two(clips, product, tmp_path / "first") == [(0, 8), (0, 8)]
    undisturbed = tree(clips.root / "heads/net")
    clips.store.delete_folder("heads/net")
    (status, _), (of_second, _) = killed.train_on_two(clips, product, tmp_path / "second", dies_at=6)
    assert of_second == -signal.SIGKILL
    assert status != 0, "the other one does not wait for ever"
    again = killed.train_on_two(clips, product, tmp_path / "third")
    assert [code for code, _ in again] == [0, 0]
    assert {steps for _, steps in again} <= {3, 4}, "it went on inside the second epoch"
    receipts.sweep(clips.store, product.path)
    assert tree(clips.root / "heads/net") == undisturbed

"""What happens before any work: no Ray is started here."""

import json
from pathlib import Path

import numpy as np
import pytest

from jobs.prepare import CONFIG_FILE, prepare, stored_plan
from schemas.config import Config
from schemas.errors import ReelmillError, UsageError

SEGMENTS = '{"database": {"1": {"subset": "training", "annotations": [{"segment": [0, 1], "label": "x"}]}}}'


@pytest.fixture
def document(tmp_path: Path) -> dict:
    for name in ("a/1.mp4", "b/2.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True)
        (tmp_path / "videos" / name).write_bytes(b"not looked into yet")
    return {
        "dataset": str(tmp_path / "out"),
        "source": {"kind": "directory", "videos": str(tmp_path / "videos")},
        "clips": {"c": {"frames": 16, "fps": 5}},
        "features": {"f": {"from": "clips/c", "model": "c3d", "weights": "random:0"}},
        "heads": {"h": {"kind": "lstm", "features": ["f"]}},
    }


def test_storage_alone_gives_the_same_plan(document) -> None:
    prepared = prepare(Config.model_validate(document))
    assert [product.path for product in prepared.plan.products] == ["clips/c", "features/f", "heads/h"]
    assert stored_plan(document["dataset"])[1] == prepared.plan


def test_a_manifest_that_stands_is_kept_until_the_source_section_changes(document, tmp_path: Path) -> None:
    before = prepare(Config.model_validate(document)).plan
    (tmp_path / "videos/a/3.mp4").write_bytes(b"")
    assert prepare(Config.model_validate(document)).plan == before
    document["source"]["labels"] = "none"
    del document["heads"]
    assert sum(unit.num_rows for unit in prepare(Config.model_validate(document)).plan.units) == 3


def test_heads_need_two_labels(document, tmp_path: Path) -> None:
    (tmp_path / "videos/b/2.mp4").unlink()
    with pytest.raises(UsageError, match=r"heads\.h: this source has fewer than two labels"):
        prepare(Config.model_validate(document))


def test_missing_weights_are_found_before_the_source_is_read(document, tmp_path: Path) -> None:
    document["features"]["f"]["weights"] = "/nowhere.pickle"
    with pytest.raises(UsageError, match=r"^features\.f: /nowhere\.pickle: can't read"):
        prepare(Config.model_validate(document))
    assert not (tmp_path / "out").exists()


def test_annotations_that_cannot_be_read_are_found_before_any_work(document, tmp_path: Path) -> None:
    found = tmp_path / "segments.json"
    found.write_text('{"results": {}}')
    annotations = {"kind": "activitynet", "json": str(found)}
    document["heads"]["h"] = {"kind": "actionformer", "features": ["f"], "annotations": annotations}
    with pytest.raises(
        UsageError, match=r'^heads\.h\.annotations: .*segments\.json: not an ActivityNet json: it has no "d'
    ):
        prepare(Config.model_validate(document))
    found.write_text(SEGMENTS)
    assert [product.path for product in prepare(Config.model_validate(document)).plan.products][-1] == "heads/h"


def test_dense_heads_need_no_labels_of_videos(document, tmp_path: Path) -> None:
    (tmp_path / "segments.json").write_text(SEGMENTS)
    annotations = {"kind": "activitynet", "json": str(tmp_path / "segments.json")}
    document["source"]["labels"] = "none"
    document["heads"]["h"] = {"kind": "linear", "labels": "dense", "features": ["f"], "annotations": annotations}
    assert prepare(Config.model_validate(document)).plan.units


def test_what_is_no_dataset_and_what_is_damaged(document, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a dataset"):
        stored_plan(str(tmp_path))
    prepare(Config.model_validate(document))
    left = json.loads((tmp_path / "out" / CONFIG_FILE).read_text())
    for damaged in ("{", "[]", json.dumps({**left, "files_sha256": 3}), json.dumps({"config": left["config"]})):
        (tmp_path / "out" / CONFIG_FILE).write_text(damaged)
        with pytest.raises(ReelmillError, match="is damaged"):
            stored_plan(document["dataset"])


@pytest.mark.parametrize(
    ("model", "source", "sentence"),
    [
        (
            "i3d_flow",
            "clips/c",
            "features.f.from: i3d_flow takes flow, and clips/c is rgb frames: make a flow product of these clips, and "
            "take that",
        ),
        (
            "c3d",
            "flow/v",
            "features.f.from: c3d takes rgb frames, and flow/v is flow: take the clips that it was made of",
        ),
        ("c4d", "clips/c", "features.f.model: there is no model 'c4d', only "),
    ],
)
def test_a_model_that_does_not_take_what_it_is_given(
    document, tmp_path: Path, model: str, source: str, sentence: str
) -> None:
    document["flow"] = {"v": {"clips": "c"}}
    document["features"]["f"] |= {"model": model, "from": source}
    with pytest.raises(UsageError) as error:
        prepare(Config.model_validate(document))
    assert str(error.value).startswith(sentence)
    assert not (tmp_path / "out").exists()


def test_a_mean_volume_is_part_of_the_identity(document, tmp_path: Path) -> None:
    volume = tmp_path / "mean.npy"
    np.save(volume, np.zeros((16, 112, 112, 3), np.float32))
    document["features"]["f"]["preprocess"] = {"mean": str(volume)}
    before = prepare(Config.model_validate(document)).plan.product("features/f")
    np.save(volume, np.ones((16, 112, 112, 3), np.float32))
    after = prepare(Config.model_validate(document)).plan.product("features/f")
    assert before.fingerprint != after.fingerprint
    volume.unlink()
    with pytest.raises(UsageError, match=r"mean\.npy: can't read this file"):
        prepare(Config.model_validate(document))

"""The pure part; test_places asks real nodes."""

import pyarrow as pa
import pytest

from pipeline.backbones import weights_sha256
from pipeline.graph import Product, Unit
from pipeline.runner.reach import _explain, _first_video, _weights, lacking
from pipeline.store import Store
from pipeline.units import write_manifest
from schemas.errors import UsageError
from schemas.manifest import MANIFEST_SCHEMA


def test_weights_and_mean_volumes_that_are_files(tmp_path) -> None:
    weights, mean = tmp_path / "c3d.pickle", tmp_path / "mean.npy"
    weights.touch()
    mean.touch()
    settings = (
        {"weights": str(weights), "preprocess": {"mean": str(mean)}},
        {"weights": "random:0", "preprocess": {"mean": [0.1, 0.2, 0.3]}},
        {"frames": 16},
    )
    products = [Product("features", f"{number}", each, {}, 1) for number, each in enumerate(settings)]
    assert _weights(products) == [str(weights), str(mean)]


def test_what_a_machine_lacks_of_a_models_weights(tmp_path) -> None:
    weights = tmp_path / "c3d.pickle"
    weights.write_bytes(b"weights")
    settings = {"from": "clips/a", "model": "c3d", "weights": str(weights)}
    product = Product("features", "c3d", settings, {}, 1, files_sha256=weights_sha256("c3d", str(weights)))
    assert lacking(product) == ""
    weights.write_bytes(b"others")
    assert lacking(product) == f"{weights} is another file there than where the run was started"
    weights.unlink()
    assert lacking(product).startswith(f"{weights}: can't read this file (No such file")
    assert lacking(Product("clips", "a", {"frames": 16}, {}, 1)) == ""
    random = {**settings, "weights": "random:0"}
    assert lacking(Product("features", "r", random, {}, 1, files_sha256=weights_sha256("c3d", "random:0"))) == ""


@pytest.mark.parametrize("kind", ["here", "gone", "s3://bucket/a.mp4"])
def test_one_video_where_videos_are_local_and_there(tmp_path, kind: str) -> None:
    video = tmp_path / "a.mp4"
    video.touch()
    uri = {"here": str(video), "gone": str(tmp_path / "b.mp4")}.get(kind, kind)
    store = Store(str(tmp_path / "out"))
    row = {"video_id": "a", "uri": uri, "labels": [], "label_ids": []}
    write_manifest(store, pa.Table.from_pylist([row], schema=MANIFEST_SCHEMA))
    assert _first_video(store, [Unit(0, 0, 1, "")]) == ([uri] if kind == "here" else [])
    assert _first_video(store, []) == []


def test_what_is_said(tmp_path) -> None:
    store = Store(str(tmp_path))
    _explain(store, "10.0.0.2", False, [])
    with pytest.raises(UsageError, match=r"is a local path, and node 10.0.0.2 does not see this folder"):
        _explain(store, "10.0.0.2", True, ["/a"])
    with pytest.raises(UsageError, match=r"^/a is not on node 10.0.0.2: workers there could not read it"):
        _explain(store, "10.0.0.2", False, ["/a", "/b"])

"""What a job takes along: the code that is here, the config, and the small files that it names by relative paths."""

from __future__ import annotations

import os
import types
import zipfile
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml

from jobs import package
from jobs.package import FILES, PLACES, check_places, contents, write_package
from pipeline.config import load_config, parse_config
from schemas.config import Config
from schemas.errors import UsageError
from schemas.section import Section

ROOT = Path(__file__).resolve().parents[2]
CODE = {"jobs", "pipeline", "schemas"}
OTHER_TEXTS = {  # fields of text that are neither files nor places
    *("clips", "features", "source", "model", "layer", "recipe", "model_options"),
    *("flow", "heads", "failed", "missing", "freeze"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a list, a folder of splits, weights and more that no config names."""
    monkeypatch.chdir(tmp_path)
    for name in ("lists/train.csv", "splits/classInd.txt", "splits/trainlist01.txt", "w/small.pt", "videos/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def config(here: Path, **values: Any) -> tuple[Config, Path]:
    path = here / "k400.yaml"
    source = {"kind": "kinetics", "csv": "lists/train.csv", "videos": "s3://bucket/videos"}
    path.write_text(yaml.safe_dump({"dataset": "s3://bucket/k400", "source": source, **values}))
    return load_config(path), path


FEATURES = {
    "clips": {"rgb16": {"frames": 16, "fps": 5}},
    "features": {"c3d": {"from": "clips/rgb16", "model": "c3d", "weights": "w/small.pt"}},
}


def names(here: Path, **values: Any) -> set[str]:
    return {name for name in contents(*config(here, **values)) if name.partition("/")[0] not in CODE}


def test_the_code_is_all_of_the_code_and_nothing_else(here: Path) -> None:
    found = set(contents(*config(here))) - names(here)
    assert {"jobs/run.py", "pipeline/runner/worker.py", "schemas/config.py"} <= found
    assert {"pipeline/report/page.html", "pipeline/report/page.css"} <= found
    assert {name.rpartition(".")[2] for name in found} == {"py", "html", "css"}
    assert {name.partition("/")[0] for name in found} == CODE
    assert not any("__pycache__" in name for name in found)


def test_relative_paths_travel(here: Path) -> None:
    assert names(here) == {"config.yaml", "lists/train.csv"}
    assert names(here, **FEATURES) == {"config.yaml", "lists/train.csv", "w/small.pt"}
    splits = {"kind": "ucf101", "videos": "/data/ucf101", "splits": "./splits"}
    assert names(here, source=splits) == {"config.yaml", "splits/classInd.txt", "splits/trainlist01.txt"}


def test_absolute_paths_uris_and_words_do_not(here: Path) -> None:
    source = {"kind": "kinetics", "csv": str(here / "lists/train.csv"), "videos": "/data"}
    heads = {"who": {"kind": "linear", "features": ["c3d"]}}
    for weights in ("s3://bucket/c3d.pickle", "/weights/c3d.pickle", "random:0", "imagenet"):
        features = {"c3d": {**FEATURES["features"]["c3d"], "weights": weights}}
        assert names(here, source=source, clips=FEATURES["clips"], features=features, heads=heads) == {"config.yaml"}


def test_folders_whose_names_are_words_of_the_config_stay_here(here: Path) -> None:
    for word in ("folder", "c3d", "rgb16"):
        (here / word).mkdir()
        (here / word / "file").write_text("x")
    source = {"kind": "directory", "videos": "/data", "labels": "folder"}
    assert names(here, source=source, **FEATURES) == {"config.yaml", "w/small.pt"}


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"dataset": "out/k400"}, "dataset: out/k400 is a relative path"),
        ({"source": {"kind": "directory", "videos": "videos"}}, "source.videos: videos is a relative path"),
    ],
)
def test_places_of_each_nodes_own_are_refused(here: Path, values: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError, match=where):
        check_places(config(here, **values)[0])


def test_a_password_in_an_address_is_refused_and_not_repeated(here: Path) -> None:
    features = {"c3d": {**FEATURES["features"]["c3d"], "weights": "s3://me:hunter2@bucket/c3d.pickle"}}
    with pytest.raises(UsageError) as error:
        check_places(config(here, clips=FEATURES["clips"], features=features)[0])
    assert "hunter2" not in str(error.value)


def test_too_much_says_what_and_what_to_do(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (here / "w/small.pt").open("wb") as file:
        file.truncate(package.LIMIT_BYTES + 1)
    with pytest.raises(UsageError, match=r"along \(w/small.pt: 100 MB.*put them into the bucket"):
        names(here, **FEATURES)


def test_a_path_out_of_the_folder_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    source = {"kind": "kinetics", "csv": "../lists/train.csv", "videos": "/data"}
    with pytest.raises(UsageError, match=r"source.csv: \.\./lists/train.csv is outside of this folder"):
        names(here, source=source)


def test_no_file_takes_the_place_of_one_of_ours(here: Path) -> None:
    (here / "config.yaml").write_text("x")
    with pytest.raises(UsageError, match="rename it"):
        names(here, source={"kind": "kinetics", "csv": "config.yaml", "videos": "/data"})


def test_the_same_files_are_the_same_package(here: Path) -> None:
    files = contents(*config(here))
    write_package(files, here / "a.zip")
    os.utime(here / "lists/train.csv", (1, 1))
    write_package(dict(reversed(files.items())), here / "b.zip")
    assert (here / "a.zip").read_bytes() == (here / "b.zip").read_bytes()
    with zipfile.ZipFile(here / "a.zip") as made:
        assert made.read("lists/train.csv") == b"lists/train.csv"
        assert parse_config(made.read("config.yaml").decode(), "config.yaml").dataset == "s3://bucket/k400"


def _holds_text(annotation: Any) -> bool:
    if get_origin(annotation) in (types.UnionType, tuple, dict) or str(annotation).startswith("typing."):
        return any(_holds_text(part) for part in get_args(annotation))
    return annotation is str


def test_every_text_of_a_config_is_known_to_be_a_file_or_not() -> None:
    """A new field that names a file, and is not listed, would stay at home."""
    stack, fields = [Section], set()
    while stack:
        model = stack.pop()
        stack += model.__subclasses__()
        fields |= {name for name, field in model.model_fields.items() if _holds_text(field.annotation)}
    assert fields >= FILES | PLACES
    assert fields - FILES - PLACES <= OTHER_TEXTS, "a file, or not? see jobs/package.py"

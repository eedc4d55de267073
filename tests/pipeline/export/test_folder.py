"""Which folder an export may fill, and how its subfolders appear."""

import json
from pathlib import Path

import pytest

from pipeline.export.folder import MARKER, ExportFolder
from schemas.errors import UsageError

IDENTITY = {"target": "denseflow", "fingerprint": "f1", "start_index": 0}


def take(out: Path | str, **changed: object) -> ExportFolder:
    return ExportFolder(str(out), identity={**IDENTITY, **changed}, facts={"fps": 5})


@pytest.mark.parametrize("exists", [True, False])
def test_a_new_or_empty_folder_gets_the_marker(tmp_path, exists) -> None:
    out = tmp_path / "a/b"
    if exists:
        out.mkdir(parents=True)
    folder = take(out)
    assert json.loads((out / MARKER).read_text()) == {"fps": 5, "export": IDENTITY}
    take(out)
    folder.sweep()
    assert [path.name for path in out.iterdir()] == [MARKER]


def test_what_a_kill_before_the_marker_leaves_is_no_obstacle(tmp_path) -> None:
    (tmp_path / "_tmp").mkdir()
    (tmp_path / "_tmp/_export.json.123").write_text("{")
    take(tmp_path)
    assert (tmp_path / MARKER).exists()


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        ({"notes.txt": "mine"}, "is not empty and holds no export (no _export.json); give a new folder"),
        ({MARKER: "{"}, "its _export.json is damaged; delete that folder or give another"),
        ({MARKER: "[]"}, "its _export.json is damaged; delete that folder or give another"),
        (
            {MARKER: json.dumps({"export": {**IDENTITY, "fingerprint": "f0"}})},
            "holds another export: its fingerprint is f0, and this one's would be f1; delete that folder or give "
            "another",
        ),
    ],
)
def test_other_folders_are_refused_and_left_alone(tmp_path, before, sentence) -> None:
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as error:
        take(tmp_path)
    assert sentence in str(error.value)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_file_and_a_uri(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="file is a file; give a folder"):
        take(tmp_path / "file")
    with pytest.raises(UsageError, match=r"--out s3://bucket/out: .* give a local folder"):
        take("s3://bucket/out")


def test_a_subfolder_appears_when_it_is_published_and_replaces_another(tmp_path) -> None:
    folder = take(tmp_path)
    for count in (2, 3):
        path = folder.begin("v")
        for k in range(count):
            (path / str(k)).write_bytes(b"x")
        assert not folder.stands("v", num_files=count)
        folder.publish(["v"])
        assert folder.stands("v", num_files=count)
        assert not folder.stands("v", num_files=count + 1)


def test_what_was_begun_and_not_published_goes_away(tmp_path) -> None:
    (take(tmp_path).begin("v") / "0").write_bytes(b"x")
    take(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "_tmp"] == [MARKER]
    assert not (tmp_path / "_tmp/v").exists()

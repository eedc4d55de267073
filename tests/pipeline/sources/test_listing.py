import errno
import os
import socket
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest

from pipeline.sources.issues import Issues
from pipeline.sources.listing import Listing, is_video_name, list_videos
from pipeline.store import resolve
from schemas.errors import StorageError, UsageError


def listed(videos) -> tuple[Listing, Issues]:
    issues = Issues()
    return list_videos(str(videos), issues), issues


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("a.mp4", True), ("a.MKV", True), ("a.b.WebM", True), ("ä.avi", True), ("a.y4m", True)),
        *(("a.txt", False), ("mp4", False), (".mp4", False), ("a.mp4.part", False), ("a.", False)),
    ],
)
def test_videos_are_known_by_extension(name, expected) -> None:
    assert is_video_name(name) is expected


def test_only_videos_and_nothing_hidden(make_tree, monkeypatch) -> None:
    root = make_tree("a.mp4", "b/c.AVI", "b/notes.txt", "b/.d.mp4", ".e/f.mp4", "g", "empty.mov")
    (root / "empty.mov").write_bytes(b"")
    (root / "folder.mp4").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(root)  # a socket's address has to be short
        server.bind("pipe.mp4")
        listing, issues = listed(root)
    assert sorted(listing.relative) == ["a.mp4", "b/c.AVI", "empty.mov"]
    assert listing.num_ignored == 3  # notes.txt, g and the socket
    assert issues.table().num_rows == 0


def test_columns(make_tree) -> None:
    root = make_tree("a.mp4", "b/c.avi")
    os.utime(root / "a.mp4", ns=(1, 1_700_000_000_123_456_789))
    listing, _ = listed(f"{root}/../videos/")
    columns = listing.columns(np.array([listing.relative.index("a.mp4")]))
    assert columns["uri"].to_pylist() == [f"{root}/a.mp4"]
    assert columns["bytes"].to_pylist() == [5]
    assert columns["etag"].to_pylist() == ["5-1700000000123456789"]


def test_relative_folder_gives_absolute_addresses(make_tree, monkeypatch) -> None:
    root = make_tree("a.mp4")
    monkeypatch.chdir(root.parent)
    listing, _ = listed("videos")
    assert listing.columns(np.array([0]))["uri"].to_pylist() == [f"{root}/a.mp4"]


def test_file_uris_are_local(make_tree) -> None:
    root = make_tree("a b.mp4")
    listing, _ = listed(f"file://{root}")
    assert listing.columns(np.array([0]))["uri"].to_pylist() == [f"{root}/a b.mp4"]


def test_linked_folders_are_followed_once(make_tree) -> None:
    root = make_tree("real/x.mp4", "real/deep/y.mp4")
    outside = make_tree("z.mp4", folder="outside")
    (root / "a_link_to_real").symlink_to(root / "real")
    (root / "real/deep/up").symlink_to(root)
    (root / "b_out").symlink_to(outside)
    (root / "a_out").symlink_to(outside)
    (root / "x_again.mp4").symlink_to(root / "real/x.mp4")
    listing, issues = listed(root)
    assert sorted(listing.relative) == ["a_out/z.mp4", "real/deep/y.mp4", "real/x.mp4", "x_again.mp4"]
    assert issues.table().num_rows == 0


def test_a_broken_link_is_an_issue(make_tree, tmp_path) -> None:
    root = make_tree("x.mp4")
    (root / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    listing, issues = listed(root)
    assert listing.relative == ["x.mp4"]
    assert issues.table().to_pylist() == [
        {"kind": "unreadable_file", "line": None, "value": "gone.mp4", "detail": "No such file or directory"}
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes names that are not UTF-8")
def test_a_name_that_is_not_utf8_is_an_issue(make_tree) -> None:
    root = make_tree("x.mp4")
    (Path(os.fsdecode(os.fsencode(root) + b"/y\xff.mp4"))).write_bytes(b"y")
    listing, issues = listed(root)
    assert listing.relative == ["x.mp4"]
    (issue,) = issues.table().to_pylist()
    assert (issue["kind"], issue["value"]) == ("name_not_utf8", r"y\udcff.mp4")


@contextmanager
def as_nobody():
    """Root may read everything, so tests of permissions give root up for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_an_unreadable_folder_is_an_issue_and_the_rest_goes_on() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for path in ("a/x.mp4", "shut/y.mp4", "z/w.mp4"):
            (root / path).parent.mkdir()
            (root / path).write_bytes(b"")
        (root / "shut").chmod(0)
        with as_nobody():
            listing, issues = listed(root)
        assert sorted(listing.relative) == ["a/x.mp4", "z/w.mp4"]
        assert issues.table().to_pylist() == [
            {"kind": "unreadable_folder", "line": None, "value": "shut", "detail": "Permission denied"}
        ]
        (root / "shut").chmod(0o755)


def test_a_mount_that_is_away_is_no_issue_but_the_end(make_tree, monkeypatch) -> None:
    """Or an index would forget all that lies on it, and the next run take away what was made of that."""
    root = make_tree("a/x.mp4", "mount/y.mp4")
    scandir = os.scandir

    def scan(path: str):
        if path.endswith("mount/"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(StorageError, match=r"mount/: can't be looked at now .stale file handle"):
        listed(root)


def test_an_unreadable_root_is_a_usage_error() -> None:
    with tempfile.TemporaryDirectory() as name:
        shut = Path(name)
        shut.chmod(0)
        with as_nobody(), pytest.raises(UsageError, match=r"can't list this folder of videos .Permission denied"):
            listed(shut)
        shut.chmod(0o755)


def test_a_missing_folder_or_a_file_is_a_usage_error(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: can't list this folder of videos .No such file"):
        listed(tmp_path / "nowhere")
    (tmp_path / "file.mp4").write_bytes(b"")
    with pytest.raises(UsageError, match="Not a directory"):
        listed(tmp_path / "file.mp4")


def test_progress_counts_videos(make_tree, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.sources.listing._PROGRESS_EVERY", 2)
    root = make_tree(*(f"{n}.mp4" for n in range(5)), "notes.txt")
    seen: list[int] = []
    list_videos(str(root), Issues(), seen.append)
    assert seen == [2, 4]


@pytest.mark.slow
def test_a_bucket(s3_uri, tmp_path) -> None:
    """A real S3 server: names are quoted so that pyarrow finds the same object again, and the options come along."""
    names = ["a.mp4", "odd/é #1?&=+.mp4", "odd/a%20b.mp4"]
    filesystem, bucket = resolve(s3_uri.format("listing"))
    for name in [*names, ".hidden/b.mp4", "notes.txt"]:
        with filesystem.open_output_stream(f"{bucket}/{name}") as file:
            file.write(name.encode())
    listing, issues = listed(s3_uri.format("listing"))
    assert sorted(listing.relative) == sorted(names)
    assert listing.num_ignored == 1
    assert issues.table().num_rows == 0
    columns = listing.columns(np.arange(len(listing)))
    for relative, uri, size in zip(
        listing.relative, columns["uri"].to_pylist(), columns["bytes"].to_pylist(), strict=True
    ):
        found, path = pafs.FileSystem.from_uri(uri)
        assert found.open_input_stream(path).read() == relative.encode()
        assert size == len(relative.encode())
    with pytest.raises(UsageError, match="can't list this folder of videos"):
        listed(s3_uri.format("nothing_here"))

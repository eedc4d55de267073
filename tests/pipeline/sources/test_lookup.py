import os

import pyarrow.fs as pafs
import pytest

from pipeline.sources.issues import Issues
from pipeline.sources.listing import list_videos
from pipeline.sources.lookup import Lookup
from pipeline.store import resolve


@pytest.fixture
def tree(make_tree):
    return make_tree("a/x.mp4", "b/x.mp4", "b/y.avi", "b/deep/y.mp4", "z.mkv", "notes.txt", ".h/w.mp4")


@pytest.fixture
def listing(tree):
    return list_videos(str(tree), Issues())


@pytest.fixture
def files(listing):
    return Lookup(listing)


def test_by_path(listing, files, tree) -> None:
    for path in ("b/x.mp4", "./b/x.mp4", "b//x.mp4", "a/../b/x.mp4", f"{tree}/b/x.mp4"):
        assert listing.relative[files.path(path)] == "b/x.mp4", path
    for path in ("x.mp4", "b", "b/X.mp4", "", ".", "/", "a\0b"):
        assert files.path(path) is None, path


def test_a_path_reaches_what_the_listing_left_out(listing, files, tree, make_tree) -> None:
    make_tree("o.mp4", folder="outside")
    (tree / "link").symlink_to(tree / "a")
    for path, relative in [
        ("notes.txt", "notes.txt"),
        (".h/w.mp4", ".h/w.mp4"),
        ("link/x.mp4", "link/x.mp4"),
        ("../outside/o.mp4", "../outside/o.mp4"),
        (f"{tree.parent}/outside/o.mp4", "../outside/o.mp4"),
    ]:
        index = files.path(path)
        assert index == files.path(path), "asked again, the same file"
        assert listing.relative[index] == relative
        (uri,) = listing.columns([index])["uri"].to_pylist()
        assert uri == os.path.normpath(tree / relative)
    assert len(listing) == len(set(listing.relative))


def test_by_name_only_where_it_is_the_only_one(listing, files) -> None:
    assert listing.relative[files.name("y.avi")] == "b/y.avi"
    assert files.name("x.mp4") is None
    assert files.name("nothing.mp4") is None
    assert listing.relative[files.path_or_name("other/y.avi")] == "b/y.avi"
    assert listing.relative[files.path_or_name("a/x.mp4")] == "a/x.mp4"
    assert files.path_or_name("other/x.mp4") is None


def test_by_stem(listing, files) -> None:
    assert listing.relative[files.stem("z")] == "z.mkv"
    assert files.stem("notes") is None
    assert files.stem("x.mp4") is None
    assert listing.relative[files.stem("x", ("b",))] == "b/x.mp4"
    assert listing.relative[files.stem("x", ("nowhere",))] == "a/x.mp4"  # by name, where nothing else decides
    assert listing.relative[files.stem("y")] == "b/y.avi"  # nearest to the top
    assert listing.relative[files.stem("y", ("deep",))] == "b/deep/y.mp4"


@pytest.mark.slow
def test_a_bucket(s3_uri) -> None:
    filesystem, bucket = resolve(s3_uri.format("lookup"))
    for name in ("a/x.mp4", "a/list.bin", ".h/y.mp4"):
        with filesystem.open_output_stream(f"{bucket}/{name}") as file:
            file.write(b"12345")
    listing = list_videos(s3_uri.format("lookup"), Issues())
    files = Lookup(listing)
    assert listing.relative == ["a/x.mp4"]
    for path in ("a/x.mp4", "s3://bucket/lookup/a/x.mp4", "a/list.bin", ".h/y.mp4"):
        index = files.path(path)
        (uri,) = listing.columns([index])["uri"].to_pylist()
        found, inner = pafs.FileSystem.from_uri(uri)
        assert found.open_input_stream(inner).read() == b"12345"
    for path in ("a/y.mp4", "a/none.bin", "s3://other/a/x.mp4", "../x.bin", "/a/x.mp4"):
        assert files.path(path) is None, path

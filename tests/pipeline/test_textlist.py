import pytest

from pipeline.textlist import check_utf8, join, list_names, parent, parse_split, read_bytes, read_lines
from schemas.errors import UsageError


def test_lines(tmp_path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffone\r\ntwo\u2028still two\n\n  four".encode())
    assert list(read_lines(str(path))) == [(1, "one"), (2, "two\u2028still two"), (3, ""), (4, "  four")]


def test_a_line_of_another_encoding_is_known(tmp_path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("é\n".encode() + b"b\xe9d\n")
    lines = [text for _, text in read_lines(str(path))]
    check_utf8(lines[0])
    with pytest.raises(ValueError, match="not UTF-8"):
        check_utf8(lines[1])


def test_missing_files_are_found_before_the_first_line(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"none\.txt: can't read this file .there is none"):
        read_lines(str(tmp_path / "none.txt"))
    with pytest.raises(UsageError, match="is a directory"):
        read_bytes(str(tmp_path))
    with pytest.raises(UsageError, match="can't list this folder"):
        list_names(str(tmp_path / "none"))


def test_list_names(tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "._a.txt", "deep/c.txt"):
        (tmp_path / name).touch()
    assert list_names(str(tmp_path)) == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("train", "train"), ("training", "train"), ("testing", "test"), (" test ", "test")),
        *(("validate", "val"), ("Validation", "val"), ("val", "val")),
    ],
)
def test_splits(text, expected) -> None:
    assert parse_split(text) == expected


@pytest.mark.parametrize("text", ["", "holdout", "trains"])
def test_unknown_splits(text) -> None:
    with pytest.raises(ValueError, match="is not one of train"):
        parse_split(text)


def test_join_and_parent() -> None:
    assert join("/a/b", "c.txt") == "/a/b/c.txt"
    assert join("/a/b/", "c.txt") == "/a/b/c.txt"
    assert join("/", "c.txt") == "/c.txt"
    assert join("s3://b/a?region=x", "c.txt") == "s3://b/a/c.txt?region=x"
    assert parent("/a/c.txt") == "/a"
    assert parent("c.txt") == "."
    assert parent("s3://b/a/c.txt?region=x") == "s3://b/a?region=x"

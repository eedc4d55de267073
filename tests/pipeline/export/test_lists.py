"""mmaction2's lists: their lines, and that they appear whole."""

from pathlib import Path

import pytest

from pipeline.export.lists import RawframeLists
from pipeline.store import Store


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


def test_a_line_a_folder_in_the_list_of_its_split(tmp_path) -> None:
    with RawframeLists(Store(str(tmp_path))) as lists:
        lists.add("train", "a", num_pictures=12, label_ids=[3])
        lists.add(None, "b", num_pictures=1, label_ids=[])
        lists.add("train", "c", num_pictures=2, label_ids=[4, 0])
        assert texts(tmp_path) == {}
        assert lists.publish() == {"train.txt": 2, "unsplit.txt": 1}
    assert texts(tmp_path) == {"train.txt": "a 12 3\nc 2 4 0\n", "unsplit.txt": "b 1\n"}


def test_nothing_is_left_of_lists_that_are_not_published(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), RawframeLists(Store(str(tmp_path))) as lists:
        lists.add("val", "a", num_pictures=12, label_ids=[3])
        raise KeyboardInterrupt
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

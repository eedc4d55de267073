import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.annotation_files import Annotations

ADAPTER = TypeAdapter(Annotations)


def test_one_path_is_a_list_of_one() -> None:
    assert ADAPTER.validate_python({"kind": "thumos14", "path": "a.json"}).path == ("a.json",)
    read = ADAPTER.validate_python({"kind": "ava", "csv": ["a.csv", "b.csv"], "labels": "list.pbtxt"})
    assert (read.csv, read.exclude) == (("a.csv", "b.csv"), ())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"kind": "kinetics"}, "'kinetics' found using 'kind'"),
        ({"kind": "manifest", "json": "a"}, "Extra inputs"),
        ({"kind": "activitynet"}, "Field required"),
        ({"kind": "thumos14", "path": []}, "at least 1 item"),
        ({"kind": "dense_labels", "dataset": "ava", "path": "x"}, "'multithumos' or 'charades'"),
    ],
)
def test_bad_sections_are_refused(section, message) -> None:
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python(section)

import pytest

from pipeline.sources.labels import MAX_LABEL_ID, MetLabels, name_labels, parse_label_id, read_label_names
from schemas.errors import UsageError


def test_met_labels_end_in_sorted_order() -> None:
    labels = MetLabels()
    met = [labels.id(name) for name in ("zoom", "arc", "zoom", "Élan", "mill")]
    names, places = labels.sorted()
    assert names == ["arc", "mill", "zoom", "Élan"]
    assert [names[place] for place in places[met]] == ["zoom", "arc", "zoom", "Élan", "mill"]


def test_names_of_a_file(write) -> None:
    assert read_label_names(str(write("labels.txt", "\ufeffrun\r\nlong jump \n\n\n"))) == ["run", "long jump"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no label names here"), ("a\n\nb\n", ":2: a blank line"), ("a\nb\udcff\n", ":2: this line is not UTF-8")],
)
def test_bad_label_files(write, text, message) -> None:
    with pytest.raises(UsageError, match=message):
        read_label_names(str(write("labels.txt", text)))


def test_label_numbers() -> None:
    assert parse_label_id("2", 3) == 2
    assert parse_label_id("007", None) == 7
    for text, num_labels in [("3", 3), ("-1", None), ("1.0", None), ("", None), ("٣", None), ("²", None)]:
        with pytest.raises(ValueError, match="label"):
            parse_label_id(text, num_labels)
    with pytest.raises(ValueError, match="highest allowed"):
        parse_label_id(str(MAX_LABEL_ID + 1), None)


def test_numbers_without_names_are_called_by_their_digits() -> None:
    assert name_labels(None, 2) == ["0", "1", "2"]
    assert name_labels(["a", "b"], 0) == ["a", "b"]
    assert name_labels(None, -1) == []

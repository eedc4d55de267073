import pytest

from pipeline.annotations.report import Report
from pipeline.annotations.ucf101_24 import read_truth
from schemas.annotation import TubeSet, VideoShape
from schemas.errors import UsageError

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<viper xmlns="http://lamp.cfar.umd.edu/viper#" '
    'xmlns:data="http://lamp.cfar.umd.edu/viperdata#"><config/><data>'
)
INFO = (
    '<file id="0" name="Information"><attribute name="NUMFRAMES"><data:dvalue value="9"/></attribute>'
    '<attribute name="FRAMERATE"><data:fvalue value="1.0"/></attribute>'
    '<attribute name="H-FRAME-SIZE"><data:dvalue value="320"/></attribute>'
    '<attribute name="V-FRAME-SIZE"><data:dvalue value="240"/></attribute></file>'
)


def box(span: str, x: object = 1) -> str:
    return f'<data:bbox framespan="{span}" height="40" width="30" x="{x}" y="2"/>'


def person(boxes: str, *spans: str, value: str = "true", action: str = "Diving") -> str:
    values = "".join(f'<data:bvalue framespan="{span}" value="{value}"/>' for span in spans)
    attributes = f'<attribute name="Location">{boxes}</attribute><attribute name="{action}">{values}</attribute>'
    return f'<object framespan="1:9" id="0" name="PERSON">{attributes}</object>'


def xgtf(*persons: str, info: str = INFO) -> str:
    return f'{HEAD}<sourcefile filename="x">{info}{"".join(persons)}</sourcefile></data></viper>'


@pytest.fixture
def read(write, tmp_path):
    def make(text: str, report: Report | None = None, name: str = "Diving/v_Diving_g01_c02.xgtf") -> TubeSet:
        write(f"annotations/{name}", text)
        return read_truth(str(tmp_path / "annotations"), report=report)

    return make


def frames(tubes: TubeSet) -> list[tuple[int, int, float]]:
    return [(tube.start_frame, tube.end_frame, tube.boxes[0, 0]) for tube in tubes.tubes]


def test_frames_count_from_0_and_the_end_is_open(read) -> None:
    tubes = read(xgtf(person(box("1:3") + box("4:4", 7), "2:4")))
    assert (tubes.videos, tubes.labels, tubes.shapes) == (
        ("v_Diving_g01_c02",),
        ("Diving",),
        (VideoShape(9, None, 320, 240),),
    )
    assert frames(tubes) == [(1, 4, 1)]
    assert tubes.tubes[0].boxes.tolist() == [[1, 2, 31, 42], [1, 2, 31, 42], [7, 2, 37, 42]]


def test_a_tube_is_cut_where_there_is_no_box_or_no_action(read) -> None:
    assert frames(read(xgtf(person(box("1:3") + box("5:9"), "1:6", "7:7", "9:9")))) == [(0, 3, 1), (4, 7, 1), (8, 9, 1)]


def test_persons_who_do_nothing_are_no_tubes_unless_nobody_does_anything(read) -> None:
    idle, acting = person(box("1:9", 5), "1:9", value="false"), person(box("1:9", 6), "3:4", action="walking")
    assert frames(read(xgtf(idle, acting))) == [(2, 4, 6)]
    assert frames(read(xgtf(idle, person(box("2:3"))))) == [(0, 9, 5), (1, 3, 1)]
    assert frames(read(xgtf(idle.replace("PERSON", "BALL")))) == []


def test_only_the_first_sourcefile_is_the_video(read) -> None:
    text = xgtf(person(box("1:2"), "1:2"))
    second = text[text.index("<sourcefile") : text.index("</data>")].replace("1:2", "5:6")
    assert frames(read(text.replace("</data>", f"{second}</data>"))) == [(0, 2, 1)]


def test_a_video_is_as_long_as_its_last_box(read) -> None:
    assert read(xgtf(person(box("1:12"), "1:12"))).shapes[0].num_frames == 12
    assert read(xgtf(person(box("1:2"), "1:2"), info="")).shapes == (VideoShape(2),)


@pytest.mark.parametrize("bad", [box("3:2"), box("0:2"), box("x"), box("1:99999999"), box("1:2", "left"), "<bbox/>"])
def test_a_bad_box_is_dropped(read, bad) -> None:
    report = Report()
    assert frames(read(xgtf(person(box("5:6") + bad, "1:9")), report)) == [(4, 6, 1)]
    assert report.counts == {"bad_box": 1}


def test_a_bad_action_is_dropped(read) -> None:
    report = Report()
    assert frames(read(xgtf(person(box("1:9"), "soon", "2:3")), report)) == [(1, 3, 1)]
    assert report.counts == {"bad_tube": 1}


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("v_Diving_g02_c01", "<viper>", "not XML"),
        ("v_Diving_g02_c01", "", "not XML"),
        ("v_Diving_g02_c01", '<?xml version="1.0" encoding="none"?><viper/>', "not XML"),
        ("v_Diving_g02_c01", "<viper/>", "has no sourcefile"),
        ("v_Diving_g02_c01", '<!DOCTYPE x [<!ENTITY a "aa">]><viper>&a;</viper>', "a DOCTYPE"),
        ("notes", xgtf(), "its name is not v_<class>"),
    ],
)
def test_a_bad_file_is_left_out(read, write, name, text, why) -> None:
    write(f"annotations/Diving/{name}.xgtf", text)
    report = Report()
    assert read(xgtf(), report).videos == ("v_Diving_g01_c02",)
    assert report.counts == {"unreadable_file": 1}
    assert why in report.lines()[0]


def test_the_first_of_two_files_of_a_name_is_kept(read, write) -> None:
    write("annotations/A/v_Diving_g01_c02.xgtf", xgtf(person(box("1:2"), "1:2")))
    report = Report()
    assert frames(read(xgtf(), report)) == [(0, 2, 1)]
    assert report.counts == {"duplicate_row": 1}


def test_a_folder_without_files_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"there is no \.xgtf in this folder"):
        read_truth(str(tmp_path))
    with pytest.raises(UsageError, match="can't list this folder"):
        read_truth(str(tmp_path / "none"))

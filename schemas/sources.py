"""The `source` section of a config: where the videos and their labels come from, one model per dataset format."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.annotation_files import Paths
from schemas.section import Section


class DirectorySource(Section):
    """A tree of videos. With `labels: folder` the label is the first folder below `videos`."""

    kind: Literal["directory"]
    videos: str
    labels: Literal["folder", "none"] = "folder"


class KineticsSource(Section):
    """Kinetics csv (`label,youtube_id,time_start,time_end,split,is_cc`) and a folder of videos."""

    kind: Literal["kinetics"]
    csv: str
    videos: str
    # trimmed: <id>_000417_000427.mp4 or <label>/<id>_….mp4; full: <id>.mp4, cut at time_start/time_end
    layout: Literal["trimmed", "full", "auto"] = "auto"


class Sports1MSource(Section):
    """Sports-1M list (`URL 168,169`) and a folder of `<youtube id>.*`; `labels` names one class a line."""

    kind: Literal["sports1m"]
    list: str
    videos: str
    labels: str | None = None
    split: Literal["train", "val", "test"] | None = None


class UCF101Source(Section):
    """UCF101 split lists (`Class/v_Class_g08_c01.avi 1`, 1-based; test lists carry no label)."""

    kind: Literal["ucf101"]
    videos: str
    splits: str  # the folder with classInd.txt, trainlist01.txt, testlist01.txt …
    fold: int = Field(default=1, ge=1, le=3)


class HMDB51Source(Section):
    """HMDB51 split files (`<class>_test_split1.txt`: name and 0 unused, 1 train, 2 test)."""

    kind: Literal["hmdb51"]
    videos: str
    splits: str
    fold: int = Field(default=1, ge=1, le=3)


class PathListSource(Section):
    """mmaction2 / SlowFast lists: `path label` a line; label an integer or a name; several, comma-separated."""

    kind: Literal["list"]
    list: str
    videos: str = ""  # prefix of relative paths; default: the list's own folder
    split: Literal["train", "val", "test"] | None = None
    labels: str | None = None  # one class name a line, for integer labels


class ActivityNetSource(Section):
    """ActivityNet json: videos with labelled segments (`database: {id: {subset, annotations}}`)."""

    kind: Literal["activitynet"]
    json_path: str = Field(alias="json")
    videos: str


class Thumos14Source(Section):
    """THUMOS14: json, csv or folders of <Class>_val.txt and <Class>_test.txt; videos with labelled segments."""

    kind: Literal["thumos14"]
    path: Paths
    videos: str


class AVASource(Section):
    """AVA: csv files of boxes (their names say train, val or test) and a folder of `<id>.*`."""

    kind: Literal["ava"]
    csv: Paths
    videos: str
    labels: str | None = None  # the action list, for names instead of ids


Source = Annotated[
    DirectorySource
    | KineticsSource
    | Sports1MSource
    | UCF101Source
    | HMDB51Source
    | PathListSource
    | ActivityNetSource
    | Thumos14Source
    | AVASource,
    Field(discriminator="kind"),
]

"""The `annotations` of a head: the files that say what is to be found where, one model per format."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from schemas.section import Section

Paths = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]


class ManifestAnnotations(Section):
    """The segments that the source has put into the manifest (an activitynet source does)."""

    kind: Literal["manifest"]


class ActivityNetAnnotations(Section):
    """ActivityNet json, as OpenTAD, ActionFormer and `reelmill synth` write it, too."""

    kind: Literal["activitynet"]
    json_path: str = Field(alias="json")


class Thumos14Annotations(Section):
    """THUMOS14: json, csv or folders of <Class>_val.txt and <Class>_test.txt."""

    kind: Literal["thumos14"]
    path: Paths


class DenseLabelsAnnotations(Section):
    """Many overlapping segments: MultiTHUMOS' folder of <Class>.txt, or Charades' csv files."""

    kind: Literal["dense_labels"]
    dataset: Literal["multithumos", "charades"]
    path: Paths
    classes: str | None = None  # charades: Charades_v1_classes.txt, for names instead of codes


class AVAAnnotations(Section):
    """AVA: boxes at whole seconds in csv files, the action list and the csv files of excluded frames."""

    kind: Literal["ava"]
    csv: Paths
    labels: str
    exclude: tuple[str, ...] = ()
    start_s: float = Field(default=0.0, ge=0)  # the csv's second at which each file begins: 900 for AVA's cut videos


class TubesAnnotations(Section):
    """Tubes: a json of one video or of many or a folder of them, as `reelmill synth` writes it; or UCF101-24's own."""

    kind: Literal["tubes"]
    path: str
    format: Literal["json", "ucf101_24"] = "json"  # ucf101_24: a folder of <Class>/v_<Class>_g01_c01.xgtf


SegmentAnnotations = Annotated[
    ManifestAnnotations | ActivityNetAnnotations | Thumos14Annotations | DenseLabelsAnnotations,
    Field(discriminator="kind"),
]
BoxAnnotations = Annotated[AVAAnnotations | TubesAnnotations, Field(discriminator="kind")]
Annotations = Annotated[
    ManifestAnnotations
    | ActivityNetAnnotations
    | Thumos14Annotations
    | DenseLabelsAnnotations
    | AVAAnnotations
    | TubesAnnotations,
    Field(discriminator="kind"),
]

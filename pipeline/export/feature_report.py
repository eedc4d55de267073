"""What an export of features says of itself, with the settings that its reader needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.export.feature_files import Target
from pipeline.export.grid import Clock
from pipeline.export.lengths import Length

NUM_NAMED = 3  # of the videos that are left out; info.json has them all


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesReport:
    target: Target
    root: Path
    features: Path  # the folder of the files
    columns: Mapping[str, int]  # product path -> how many, in their order
    clock: Clock
    clip_fps: float
    length: Length
    views: set[str]
    num_files: int
    num_rows: int
    num_repeated: int  # rows at the end that repeat a video's last window
    num_without: int  # videos that have no rows in some product
    num_partial: int  # exported videos that were decoded in part
    left_out: Mapping[str, str]  # video_id -> why
    num_segments: int
    num_labels: int  # that have a segment in an exported video
    num_numbered: int  # that have one in the manifest

    @property
    def num_columns(self) -> int:
        return sum(self.columns.values())

    def lines(self) -> list[str]:
        lines = [self._files(), self._seconds()]
        if len(self.views) > 1:
            lines.append(f"each row is the mean of {len(self.views)} views: {', '.join(sorted(self.views))}")
        if self.clock.fps != self.clip_fps:
            lines.append(
                f"frames are counted {float(self.clock.fps):g} times a second, the clips' own come {self.clip_fps:g} "
                "times: stride and offset are whole numbers so"
            )
        return lines + self._missing() + self._segments() + self._settings()

    def _files(self) -> str:
        blocks = " | ".join(f"{path} {count:,}" for path, count in self.columns.items())
        rows = f"{self.num_rows:,} rows" if self.num_rows != 1 else "1 row"
        return f"{_videos(self.num_files)} in {self.features}, {rows} of {self.num_columns:,} columns ({blocks})"

    def _seconds(self) -> str:
        if self.length.rule == "fixed":
            return (
                f"length {self.length}: row t is centred on (t + 0.5) * duration / {self.length} s after its video's "
                "first window starts; info.json has each duration"
            )
        clock = self.clock
        line = (
            f"length {self.length}: row t is centred on (t * {clock.feature_stride} + {clock.offset_frames}) / "
            f"{float(clock.fps):g} s after its video's first window starts; a snippet has {clock.snippet_frames} frames"
        )
        if self.num_repeated:
            line += f"; {self.num_repeated:,} rows at the ends repeat their video's last window"
        return line

    def _missing(self) -> list[str]:
        lines = []
        if self.num_without:
            all_products = "the product" if len(self.columns) == 1 else "all products"
            lines.append(f"{_videos(self.num_without)} without rows in {all_products}; `reelmill status` says why")
        if self.num_partial:
            lines.append(f"{_videos(self.num_partial)} decoded in part: their rows end where the frames did")
        if self.left_out:
            named = [f"{video_id} ({reason})" for video_id, reason in list(self.left_out.items())[:NUM_NAMED]]
            more = len(self.left_out) - len(named)
            lines.append(
                f"{_videos(len(self.left_out))} left out: {'; '.join(named)}"
                + (f"; and {more:,} more, see info.json" if more else "")
            )
        return lines

    def _segments(self) -> list[str]:
        if self.target == "npy":
            return []
        if not self.num_segments:
            return ["no segments: the annotations hold durations only, since the source names no segment"]
        lines = [f"{self.num_segments:,} segments of {self.num_labels:,} labels"]
        if self.num_labels < self.num_numbered:
            lines.append(
                f"{self.num_numbered - self.num_labels:,} of {self.num_numbered:,} labels have no segment in an "
                "exported video; ActionFormer takes only jsons in which each label occurs"
            )
        return lines

    def _settings(self) -> list[str]:
        clock, root = self.clock, self.root
        fps = f"{float(clock.fps):g}" if float(f"{float(clock.fps):g}") == clock.fps else repr(float(clock.fps))
        fixed = self.length.num_rows
        if self.target == "opentad":
            place = (
                f"type='AnetResizeDataset', resize_length={fixed}"
                if fixed
                else f"type='AnetPaddingDataset', feature_stride={clock.feature_stride}, sample_stride=1, "
                f"offset_frames={clock.offset_frames}, fps={fps}"
            )
            return [
                f"OpenTAD: dict({place}, ann_file='{root / 'annotations.json'}', "
                f"class_map='{root / 'category_idx.txt'}', data_path='{self.features}'), LoadFeats(feat_format='npy')"
            ]
        if self.target == "actionformer":
            place = (
                f"dataset_name: anet, feat_stride: -1, num_frames: -1, max_seq_len: {fixed}"
                if fixed
                else f"dataset_name: thumos, feat_stride: {clock.feature_stride}, num_frames: {clock.snippet_frames}"
            )
            return [
                f"ActionFormer: {place}, default_fps: {fps}, json_file: {root / 'annotations.json'}, "
                f"feat_folder: {self.features}, file_prefix: null, file_ext: .npy, input_dim: {self.num_columns}, "
                f"num_classes: {self.num_labels}"
            ]
        if self.target == "mmaction2":
            return [
                f"mmaction2: dict(type='ActivityNetDataset', ann_file='{root}/….json', "
                f"data_prefix=dict(video='{self.features}')), temporal_dim={fixed}, feat_dim={self.num_columns}"
            ]
        return []


def _videos(count: int) -> str:
    return "1 video" if count == 1 else f"{count:,} videos"

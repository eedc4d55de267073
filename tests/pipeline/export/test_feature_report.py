"""The line that tells a reader's settings."""

from __future__ import annotations


def test_the_last_line_has_the_settings_of_the_reader(stored, tmp_path) -> None:
    data, out = stored([10.0]), tmp_path
    line = data.export(out / "1", target="opentad").lines()[-1]
    assert "type='AnetPaddingDataset', feature_stride=16, sample_stride=1, offset_frames=8, fps=5" in line
    assert (
        "type='AnetResizeDataset', resize_length=64"
        in data.export(out / "2", target="opentad", length="64").lines()[-1]
    )
    line = data.export(out / "3", target="actionformer").lines()[-1]
    assert "dataset_name: thumos, feat_stride: 16, num_frames: 16, default_fps: 5" in line
    line = data.export(out / "4", target="actionformer", length="64").lines()[-1]
    assert "dataset_name: anet, feat_stride: -1, num_frames: -1, max_seq_len: 64" in line

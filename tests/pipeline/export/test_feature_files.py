"""Files under the names that readers look for, with numbers that read back the same."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.export.feature_files import FeatureFiles
from pipeline.export.folder import ExportFolder

ODD = np.array([[0, -0.0, 1e-45, 3.4028235e38], [1 / 3, -1e-7, 16777217, np.nan]], np.float32)


@pytest.mark.parametrize(("target", "name"), [("npy", "features/v~mp4.npy"), ("mmaction2", "csv/v_v~mp4.csv")])
def test_a_file_appears_when_it_is_published(tmp_path, target, name) -> None:
    folder = ExportFolder(str(tmp_path / "out"), identity={}, facts={})
    files = FeatureFiles(folder, target)
    files.write("v~mp4", ODD)
    assert not files.stands("v~mp4")
    assert not (tmp_path / "out" / name).exists()
    files.publish(["v~mp4"])
    assert files.stands("v~mp4")
    assert files.path == (tmp_path / "out" / name).parent
    if target == "npy":
        found = np.load(tmp_path / "out" / name, allow_pickle=False)
    else:
        found = np.loadtxt(tmp_path / "out" / name, dtype=np.float32, delimiter=",", skiprows=1)
    np.testing.assert_array_equal(found, ODD)


@pytest.mark.parametrize(("target", "most"), [("npy", 251), ("mmaction2", 249)])
def test_names_that_a_disk_takes(tmp_path, target, most) -> None:
    files = FeatureFiles(ExportFolder(str(tmp_path / "out"), identity={}, facts={}), target)
    files.write("x" * most, ODD)
    files.publish(["x" * most])
    assert files.takes("x" * most)
    assert not files.takes("x" * (most + 1))

"""One file a video: npy for OpenTAD, ActionFormer and whoever reads NumPy, csv for mmaction2."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from pipeline.export.folder import ExportFolder

Target = Literal["opentad", "actionformer", "npy", "mmaction2"]
TARGETS: tuple[Target, ...] = get_args(Target)
MAX_NAME_BYTES = 255  # of a file, on the file systems there are


class FeatureFiles:
    """The files of an export, under names made from the video ids."""

    def __init__(self, folder: ExportFolder, target: Target) -> None:
        self._folder = folder
        self._is_csv = target == "mmaction2"

    @property
    def path(self) -> Path:
        """The folder that readers are given."""
        return self._folder.root / ("csv" if self._is_csv else "features")

    def takes(self, video_id: str) -> bool:
        """Whether the id can be a file's name."""
        return len(Path(self._name(video_id)).name.encode()) <= MAX_NAME_BYTES

    def stands(self, video_id: str) -> bool:
        return (self._folder.root / self._name(video_id)).exists()

    def write(self, video_id: str, features: NDArray[np.float32]) -> None:
        """Write (T, D) float32. The file appears when it is published."""
        path = self._folder.begin_file(self._name(video_id))
        if self._is_csv:
            _write_csv(path, features)
        else:
            np.save(path, np.ascontiguousarray(features))

    def publish(self, video_ids: Iterable[str]) -> None:
        self._folder.publish([self._name(video_id) for video_id in video_ids])

    def _name(self, video_id: str) -> str:
        return f"csv/{csv_key(video_id)}.csv" if self._is_csv else f"features/{video_id}.npy"


def csv_key(video_id: str) -> str:
    """The name of a video for mmaction2, whose metric cuts off its first two letters."""
    return f"v_{video_id}"


def _write_csv(path: Path, features: NDArray[np.float32]) -> None:
    """A line of column names, which LoadLocalizationFeature skips, then a line a row; numbers read back the same."""
    names = [f"f{column}" for column in range(features.shape[1])]
    table = pa.table([pa.array(column) for column in np.ascontiguousarray(features.T)], names)
    with path.open("wb") as file:
        file.write(f"{','.join(names)}\n".encode())  # pyarrow would put it in quotes
        pacsv.write_csv(table, file, pacsv.WriteOptions(include_header=False))

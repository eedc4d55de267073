"""One unit's folders: what stands is not read again, and a stopped export leaves none half written."""

import threading
from pathlib import Path

import pytest

from pipeline.export.folder import ExportFolder
from pipeline.export.layout import ClipRow, Folder, Layout
from pipeline.export.rawframes import RawframeWriter, StoppedError
from schemas.config import Clips, Flow


@pytest.fixture
def written(made, tmp_path) -> tuple[object, RawframeWriter, list[Folder]]:
    data = made([25, 25])
    flow, clips = Flow.model_validate(data.flow.settings), Clips.model_validate(data.clips.settings)
    writer = RawframeWriter(
        store=data.store,
        out=ExportFolder(str(tmp_path / "out"), identity={}, facts={}),
        start_index=1,
        flow=(data.flow, flow),
        frames=(data.clips, clips),
        stop=threading.Event(),
    )
    rows = [ClipRow(f"v{i}@0-1000000", f"v{i}", 0, 1, (i,), 4) for i in (0, 1)]
    return data, writer, list(Layout(flow, clips, per="video", frames=True).folders(rows))


def test_shards_are_read_for_absent_folders_only(written, tmp_path) -> None:
    data, writer, folders = written
    (unit,) = data.plan.units
    writer.write(unit, folders[:1])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"_export.json", "_tmp", "v0"}
    written_ns = (tmp_path / "out/v0/img_00001.jpg").stat().st_mtime_ns
    writer.write(unit, folders)
    assert len(list((tmp_path / "out/v1").iterdir())) == 2 * 4 + 5
    assert (tmp_path / "out/v0/img_00001.jpg").stat().st_mtime_ns == written_ns
    Path(data.store.path("flow/f/flow-000000.tar")).unlink()
    writer.write(unit, folders)


def test_a_stopped_writer_publishes_nothing(written, tmp_path) -> None:
    data, writer, folders = written
    writer.stop.set()
    with pytest.raises(StoppedError):
        writer.write(data.plan.units[0], folders)
    assert not (tmp_path / "out/v0").exists()

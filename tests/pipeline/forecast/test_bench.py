"""The workbench: what is cut from long videos, and units put together that are those a stage would make."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import receipts
from pipeline.forecast.bench import NUM_NONE, WHOLE_S, Bench, lay_out
from pipeline.forecast.lengths import lengths_s
from pipeline.forecast.sample import Picked
from pipeline.graph import Product
from pipeline.stages import CODE_VERSIONS, card_of, stage_module
from pipeline.synth import SynthSpec, make_dataset
from pipeline.units import unit_rows
from schemas.config import Clips, Limits
from schemas.manifest import MANIFEST_SCHEMA

STRIDE = Clips(frames=16, fps=5)
UNIFORM = Clips(frames=16, fps=5, windows="uniform", num_clips=2)


def manifest(uris: list[str], **columns: list) -> pa.Table:
    rows = [
        {"video_id": f"v{n}", "uri": uri, "labels": [], "label_ids": [], "bytes": 9}
        | {name: values[n] for name, values in columns.items()}
        for n, uri in enumerate(uris)
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def bench_of(folder: Path, table: pa.Table, lengths: list, *, clips=(STRIDE,), rounds: int = 1) -> Bench:
    picked = [Picked(row, 1.0) for row in range(table.num_rows)]
    return lay_out(str(folder), table, picked, clips=clips, rounds=rounds, lengths_s=lambda uris: lengths)


def span(bench: Bench, part: str, video: int) -> tuple[float | None, float | None]:
    (row,) = unit_rows(bench.store, getattr(bench.videos[video], part)[0])
    return row.start_s, row.end_s


def test_of_a_long_video_the_first_minute_and_one_clip_of_its_middle(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, manifest(["/a", "/b"]), [600.0, 2.0])
    assert span(bench, "whole", 0) == (0.0, WHOLE_S)
    assert bench.videos[0].scale == 10
    assert span(bench, "short", 0) == (pytest.approx(298.4), pytest.approx(301.6))
    assert span(bench, "whole", 1) == span(bench, "short", 1) == (None, None)
    assert bench.videos[1].scale == 1


def test_a_row_that_names_a_part_of_its_video_is_cut_inside_it(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, manifest(["/a", "/b"], start_s=[100.0, 10.0], end_s=[400.0, 20.0]), [350.0, None])
    assert span(bench, "whole", 0) == (100.0, 100.0 + WHOLE_S)
    assert bench.videos[0].scale == pytest.approx(250 / WHOLE_S)
    assert span(bench, "whole", 1) == (10.0, 20.0)
    assert span(bench, "short", 1) == (pytest.approx(13.4), pytest.approx(16.6))


def test_windows_that_depend_on_the_whole_video_get_the_whole(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, manifest(["/a"]), [600.0], clips=(UNIFORM,))
    assert span(bench, "whole", 0) == (None, None)
    both = bench_of(tmp_path, manifest(["/a"]), [600.0], clips=(UNIFORM, STRIDE))
    assert span(both, "whole", 0) == (None, None)


def test_a_video_of_unknown_length_is_taken_whole(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, manifest(["/a"]), [None])
    assert span(bench, "whole", 0) == span(bench, "short", 0) == (None, None)


def test_rounds_give_every_core_work(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, manifest(["/a", "/b"]), [2.0, 2.0], rounds=3)
    units = bench.units("whole")
    assert len({unit.index for unit in units}) == 6
    assert [unit_rows(bench.store, unit)[0].uri for unit in units] == ["/a", "/b"] * 3
    assert len(bench.none) == NUM_NONE
    assert {unit_rows(bench.store, unit)[0].uri for unit in bench.none} == {f"{tmp_path}/no-such-video"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    made = tmp_path_factory.mktemp("made")
    make_dataset(made, SynthSpec(num_classes=1, videos_per_class=3, duration_s=2.0))
    return [str(path) for path in sorted((made / "trimmed/videos").rglob("*.mp4"))]


def test_joined_units_are_those_that_the_stage_makes(videos, tmp_path: Path) -> None:
    spec = Clips(frames=4, fps=4, resize=(32, 32))
    product = Product("clips", "a", spec.model_dump(mode="json"), {}, CODE_VERSIONS["clips"])
    table = manifest([*videos, "/nowhere"])
    bench = bench_of(tmp_path, table, [2.0] * 4, clips=(spec,))
    receipts.write_card(bench.store, card_of(product, bench.store))
    stage = stage_module("clips").open_stage(product, bench.store, Limits())
    parts = bench.units("whole")
    made = [stage(unit) for unit in parts]
    joined = bench.join(product, parts, 0)
    receipt = receipts.require(bench.store, "clips/a", joined, product.unit_fingerprint(joined))
    receipts.retract(bench.store, "clips/a", joined.index)
    whole = stage(joined)
    stage.close()
    assert receipt == whole  # with the hashes of all files
    assert receipt.items == sum(one.items for one in made) > 3
    assert receipt.rows["failed"] == 1


def test_lengths_of_real_videos(videos, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    found = lengths_s([videos[0], str(tmp_path / "text.mp4"), "/nowhere", *videos[1:]])
    assert [found[1], found[2]] == [None, None]
    assert [found[0], *found[3:]] == [pytest.approx(2.0, abs=0.1)] * 3


def test_a_video_that_hangs_its_reader_costs_only_itself(videos, tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.mp4")  # opening it waits for a writer that never comes
    found = lengths_s([videos[0], str(tmp_path / "pipe.mp4"), videos[1]], timeout_s=5)
    assert found[1] is None
    assert found[2] == pytest.approx(2.0, abs=0.1)


def test_ids_are_as_long_as_those_they_stand_for(tmp_path: Path) -> None:
    """Ids fill much of a small unit's files: a workbench of shorter ones would promise smaller files."""
    table = manifest(["/a", "/b"])
    table = table.set_column(0, table.schema.field(0), pa.array(["a-video-with-a-long-name", "b"]))
    bench = bench_of(tmp_path, table, [2.0, 2.0], rounds=2)
    ids = {
        part: [unit_rows(bench.store, unit)[0].video_id for unit in bench.units(part)] for part in ("whole", "short")
    }
    assert [len(video_id) for video_id in ids["whole"]] == [24, 5, 24, 5]
    assert len({*ids["whole"], *ids["short"]}) == 8

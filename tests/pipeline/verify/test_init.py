"""A dataset verified as a whole."""

from __future__ import annotations

import shutil

import pytest

from pipeline.verify import verify
from schemas.errors import UsageError


def test_a_fresh_dataset_passes(fresh) -> None:
    told: list[tuple[str, int, int]] = []
    found = verify(fresh.store, num_clips=4, progress=lambda *news: told.append(news))
    reports = {report.product: report for report in found}
    assert list(reports) == ["clips/c", "flow/f", "features/m", "features/v"]
    for report in reports.values():
        assert (report.verdict, report.faults, report.unchecked, report.notes) == ("ok", [], [], [])
        assert report.is_hashed
        assert report.num_units == 2
    assert {path: report.num_files for path, report in reports.items()} == {
        "clips/c": 6,
        "flow/f": 6,
        "features/m": 6,
        "features/v": 4,
    }
    num_bytes = sum(report.num_bytes for report in found)
    assert {total for _, _, total in told} == {num_bytes} == {sum(done for _, done, _ in told)}
    assert [what for what, done, _ in told if not done][:2] == ["clips/c", "clips/c: made again"]
    made = {
        path: [(c.made_from, len(c.values), c.worst) for c in report.comparisons] for path, report in reports.items()
    }
    assert made["clips/c"] == [("videos", 4, 0.0)]
    assert made["flow/f"] == [("videos", 4, 0.0)]
    assert [(origin, count) for origin, count, _ in made["features/v"]] == [("clips/c", 4), ("videos", 4)]
    # of each clip two windows with three views, but of the last ones, whose second window is padding
    assert [(origin, count) for origin, count, _ in made["features/m"]] == [("clips/c", 18), ("videos", 18)]
    assert min(worst for path in ("features/v", "features/m") for _, _, worst in made[path]) > 0.9999


def test_without_config_and_manifest_it_goes_by_cards_and_ledgers(copy) -> None:
    copy.store.delete("manifest.parquet")
    reports = verify(copy.store, products=["features/v", "clips/c"], num_clips=2)
    assert [report.verdict for report in reports] == ["ok", "ok"]
    assert [c.made_from for c in reports[1].comparisons] == ["clips/c", "videos"]
    assert reports[0].notes == [
        "whether it is of these videos can't be told without manifest.parquet and a product that was cut by it"
    ]


def test_a_config_that_has_changed_makes_it_stale(copy, config) -> None:
    clips = {"c": {**config["clips"]["c"], "short_side": 80}}
    report = verify(copy.store, products=["clips/c"], plan=copy.plan({**config, "clips": clips}), num_clips=0)[0]
    assert report.faults == [
        "it is stale: the dataset's config has other settings by now; `reelmill run` makes it anew"
    ]


def test_videos_that_are_not_here_are_no_pass(copy, verified) -> None:
    copy.move_videos("/nowhere")
    clips, vectors = (verified(copy, path, num_clips=2) for path in ("clips/c", "features/v"))
    assert (clips.verdict, clips.faults, clips.comparisons) == ("not all checked", [], [])
    assert len(clips.unchecked) == 2
    assert clips.unchecked[0].endswith("from its video: /nowhere/0.mp4 is not there")
    assert (vectors.verdict, vectors.faults) == ("not all checked", [])
    assert [c.made_from for c in vectors.comparisons] == ["clips/c"]
    assert len(vectors.unchecked) == 2


def test_features_alone_are_hashed_only(copy, verified) -> None:
    shutil.rmtree(copy.folder / "clips")
    report = verified(copy, "features/v")
    assert (report.verdict, report.comparisons) == ("not all checked", [])
    assert report.unchecked == ["it was made from clips/c, which is not beside it: no row can be made again"]
    assert report.num_files == 4


def test_no_clips_asked_for_are_none_made_again(fresh, verified) -> None:
    report = verified(fresh, "features/v", num_clips=0, hashing=False)
    assert (report.verdict, report.comparisons, report.is_hashed) == ("ok", [], False)


def test_what_is_asked_for_must_be_there(fresh, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"--product clips/d: .* has no such product, only clips/c, flow/f, "):
        verify(fresh.store, products=["clips/d"])
    other = tmp_path / "other.pth"
    other.write_bytes(b"other")
    sentence = r"its sha256 is d9298a10d1b0…, and features/m was made with \w{12}… and features/v was made with"
    with pytest.raises(UsageError, match=sentence):
        verify(fresh.store, weights=str(other))

"""What cards and receipts say of each other."""

from __future__ import annotations

import json

import pytest

from pipeline.graph import Product
from pipeline.stages import card_of
from pipeline.store import Store
from pipeline.verify import verify
from pipeline.verify.report import ProductReport
from pipeline.verify.stored import Inputs, Stored, _counts, check_card, find, open_product
from schemas.errors import UsageError
from schemas.receipt import Receipt


def test_products_are_found_without_a_config(fresh, tmp_path) -> None:
    assert find(fresh.store) == ["clips/c", "flow/f", "features/m", "features/v"]
    with pytest.raises(UsageError, match=r"no product here \(no clips/NAME, flow/NAME, features/NAME, heads/NAME\)"):
        find(Store(str(tmp_path)))
    with pytest.raises(UsageError, match=r"is a product; write `reelmill verify .*/data --product features/v`"):
        find(Store(str(fresh.folder / "features/v")))


def test_a_card_that_was_edited(copy, verified) -> None:
    settings = json.loads(copy.store.read("features/v/_card.json"))["settings"]
    copy.rewrite("features/v/_card.json", settings={**settings, "crops": 3})
    report = verified(copy, "features/v", num_clips=0)
    assert report.faults == ["its card was changed after it was written: its settings do not give its fingerprint"]


def test_a_card_that_is_damaged_or_missing(copy, verified) -> None:
    (copy.folder / "features/v/_card.json").write_text("{")
    (copy.folder / "features/m/_card.json").unlink()
    vectors, maps = verify(copy.store, products=["features/v", "features/m"])[::-1]
    assert vectors.faults == [
        f"{copy.folder}/features/v/_card.json is damaged: `reelmill run` makes it anew",
    ]
    assert maps.faults == [f"{copy.folder}: no product 'features/m' here (it has no _card.json)"]


def test_receipts_of_other_settings_or_other_videos_are_stale(copy, verified) -> None:
    copy.rewrite("clips/c/_receipts/000001.json", fingerprint="0" * 64)
    report = verified(copy, "clips/c")
    assert report.faults == [
        "1 of its units are stale, of other settings or other manifest rows than its card and manifest.parquet say: "
        "000001"
    ]
    assert len(report.comparisons[0].values) == 3  # of the other unit


def test_damaged_and_foreign_receipts(copy, verified) -> None:
    (copy.folder / "clips/c/_receipts/000000.json").write_text("{}")
    copy.rewrite("clips/c/_receipts/000001.json", product="clips/d")
    faults = verified(copy, "clips/c", num_clips=0).faults
    assert faults[:2] == [
        "clips/c/_receipts/000000.json is damaged, so nobody knows which files its unit has",
        "clips/c/_receipts/000001.json is the receipt of clips/d, unit 000001",
    ]
    assert len(faults) == 4  # their shards are claimed by no receipt, then


def test_units_that_are_not_made_yet(copy, verified) -> None:
    for path in copy.folder.glob("flow/f/**/*000001*"):
        path.unlink()
    report = verified(copy, "flow/f", num_clips=0)
    assert (report.verdict, report.notes) == ("ok", ["1 of its 2 units are not made yet: 000001"])


def test_another_upstream_than_it_was_made_from(copy, verified) -> None:
    copy.rewrite("clips/c/_card.json", fingerprint="0" * 64)
    faults = verified(copy, "features/v", num_clips=0).faults
    assert faults == ["it was made from another clips/c than the one that lies beside it"]


def test_versions_and_settings_that_are_not_known(copy, verified) -> None:
    card = json.loads(copy.store.read("flow/f/_card.json"))
    copy.rewrite("flow/f/_card.json", code_version=99)
    assert verified(copy, "flow/f").unchecked == [
        "it is of version 99 of the flow stage, and this reelmill makes version 1: its items can't be made again here"
    ]
    copy.rewrite("flow/f/_card.json", code_version=1, settings={**card["settings"], "colour": "red"})
    assert verified(copy, "flow/f").unchecked == [
        "the card of flow/f has settings that this version does not know (colour: Extra inputs are not permitted)"
    ]


def test_a_manifest_alone_does_not_tell_its_units(fresh) -> None:
    clips = open_product(fresh.store, "clips/c", ProductReport("clips/c"))
    assert Inputs(fresh.store, [], None).units_of(clips) is None
    units = Inputs(fresh.store, [clips], None).units_of(clips)
    assert units is not None
    assert [unit.num_rows for unit in units] == [1, 1]


@pytest.mark.parametrize(
    ("made", "cut"),
    [
        ({0: 3, 1: 1, 2: 2}, [3, 1, 2, 3, 1]),  # units end by bytes too; those at the end are not made yet
        ({0: 4, 2: 2}, [4, 4, 2]),  # a gap, and all others but the last are alike
        ({0: 4, 2: 2, 3: 1}, []),  # a gap of which nobody knows how long it is
        ({1: 0}, []),
    ],
)
def test_how_the_manifest_was_cut_is_told_by_receipts(made: dict[int, int], cut: list[int]) -> None:
    receipts = {
        unit: Receipt(product="clips/c", unit=unit, fingerprint="f", rows={"ok": rows}, items=0, files=())
        for unit, rows in made.items()
    }
    assert _counts([Stored("clips/c", "clips", None, receipts)], 10) == cut  # type: ignore[arg-type]


@pytest.mark.parametrize("sha256", [None, "of the annotations"])
def test_a_heads_card_says_which_files_it_was_trained_with(tmp_path, sha256: str | None) -> None:
    settings = {"kind": "talnet", "features": ["v"]}
    product = Product("heads", "h", settings, {"features/v": "f"}, 2, sha256)
    card = card_of(product, Store(str(tmp_path)))
    for details, faults in ((card.details, 0), ({**card.details, "files_sha256": "other"}, 1)):
        report = ProductReport("heads/h")
        check_card(Stored("heads/h", "heads", card.model_copy(update={"details": details}), {}), report)
        assert len(report.faults) == faults

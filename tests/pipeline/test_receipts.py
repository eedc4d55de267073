import contextlib
import threading

import pytest

from pipeline import receipts
from pipeline.graph import Product, Unit
from pipeline.store import StagedFile, Store
from schemas.errors import ReelmillError, StorageError
from schemas.ledger import LedgerRow
from schemas.receipt import Card, FileEntry

UNIT = Unit(index=0, start_row=0, num_rows=2, rows_sha256="r")
LEDGER = [LedgerRow("a", "/a", "ok", num_items=2), LedgerRow("b", "/b", "failed", "missing", "no such file")]


def product(**settings) -> Product:
    return Product("clips", "c", settings=settings, upstream={}, code_version=1)


def card_of(made: Product) -> Card:
    settings = dict(made.settings)
    return Card(
        product=made.path,
        fingerprint=made.fingerprint,
        code_version=1,
        settings=settings,
        upstream={},
        details={},
        versions={},
    )


def make(store: Store, made: Product, unit: Unit = UNIT, data: bytes = b"tar"):
    with receipts.begin(store, made, unit) as writer:
        writer.file(f"clips-{unit.index:06d}.tar").write(data)
        return writer.commit(LEDGER, items=2)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path))


def test_commit(store) -> None:
    receipt = make(store, product())
    assert receipt.rows == {"ok": 1, "partial": 0, "failed": 1, "filtered": 0}
    assert [entry.path for entry in receipt.files] == ["_ledger/000000.parquet", "clips-000000.tar"]
    assert receipts.load(store, "clips/c", 0) == receipt
    assert receipts.standing(store, product(), UNIT) == receipt
    assert receipts.read_ledger(store, "clips/c", 0) == LEDGER


def test_another_setting_or_another_row_makes_it_stale(store) -> None:
    make(store, product())
    assert receipts.standing(store, product(fps=5), UNIT) is None
    assert receipts.standing(store, product(), Unit(0, 0, 2, "other rows")) is None


def test_the_receipt_comes_last(store, monkeypatch) -> None:
    published: list[str] = []
    original = Store.put
    monkeypatch.setattr(Store, "put", lambda self, path, data: (published.append(path), original(self, path, data))[1])
    with receipts.begin(store, product(), UNIT) as writer:
        writer.file("clips-000000.tar").write(b"tar")
        assert store.files("clips/c") == []
        writer.commit(LEDGER, items=2)
    assert published == ["clips/c/_receipts/000000.json"]
    assert store.files("clips/c") == ["clips-000000.tar"]


def test_a_failed_stage_leaves_nothing(store, tmp_path) -> None:
    with pytest.raises(RuntimeError), receipts.begin(store, product(), UNIT) as writer:
        writer.file("clips-000000.tar").write(b"half")
        raise RuntimeError
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("ledger", [[], LEDGER[:1], [LEDGER[0], LEDGER[0]], [*LEDGER, LedgerRow("c", "/c", "ok")]])
def test_every_row_is_accounted_for_once(store, ledger) -> None:
    with receipts.begin(store, product(), UNIT) as writer, pytest.raises(ReelmillError, match="2 rows went in"):
        writer.commit(ledger, items=0)
    assert receipts.load(store, "clips/c", 0) is None


def test_a_remade_unit_takes_the_old_files_away(store) -> None:
    with receipts.begin(store, product(), UNIT) as writer:
        writer.file("old-000000.tar").write(b"1")
        writer.commit(LEDGER, items=2)
    make(store, product(fps=5))
    assert store.files("clips/c") == ["clips-000000.tar"]


def test_prune_and_sweep(store) -> None:
    for index in range(3):
        make(store, product(), Unit(index, 0, 2, "r"))
    store.put("clips/c/clips-000007.tar", b"left by a killed writer of a larger plan")
    store.put("clips/c/_card.json", b"{}")
    (leftover := store.stage("clips/c/clips-000001.tar")).file.write(b"half")
    assert receipts.prune(store, "clips/c", 1) == 2
    receipts.sweep(store, "clips/c")
    assert store.files("clips/c") == ["_card.json", "clips-000000.tar"]
    assert store.files("clips/c/_ledger") == ["000000.parquet"]
    assert store.folders("clips/c") == ["_ledger", "_receipts"]
    leftover.__exit__(None, None, None)


def test_an_unreadable_receipt_counts_as_none(store) -> None:
    store.put(receipts.receipt_path("clips/c", 0), b"{ not json")
    assert receipts.load(store, "clips/c", 0) is None


def test_require(store) -> None:
    with pytest.raises(ReelmillError, match="clips/c unit 000000 is not made yet"):
        receipts.require(store, "clips/c", UNIT, product().unit_fingerprint(UNIT))
    receipt = make(store, product())
    assert receipts.require(store, "clips/c", UNIT, product().unit_fingerprint(UNIT)) == receipt
    with pytest.raises(ReelmillError, match="is stale"):
        receipts.require(store, "clips/c", UNIT, product(fps=5).unit_fingerprint(UNIT))


def test_cards(store) -> None:
    with pytest.raises(ReelmillError, match="no product 'clips/c' here"):
        receipts.read_card(store, "clips/c")
    card = Card(
        product="clips/c", fingerprint="f", code_version=1, settings={"fps": 5}, upstream={}, details={}, versions={}
    )
    receipts.write_card(store, card)
    before = store.identity("clips/c/_card.json")
    receipts.write_card(store, card)
    assert store.identity("clips/c/_card.json") == before
    assert receipts.read_card(store, "clips/c") == card


def test_a_card_of_other_settings_or_a_damaged_one_does_not_stand(store) -> None:
    assert not receipts.card_stands(store, product())
    card = Card(
        product="clips/c",
        fingerprint=product().fingerprint,
        code_version=1,
        settings={},
        upstream={},
        details={},
        versions={},
    )
    receipts.write_card(store, card)
    assert receipts.card_stands(store, product())
    assert not receipts.card_stands(store, product(fps=5))
    store.put("clips/c/_card.json", b"{")
    assert not receipts.card_stands(store, product())
    with pytest.raises(ReelmillError, match="is damaged"):
        receipts.read_card(store, "clips/c")


def test_a_missing_ledger_is_a_sentence(store) -> None:
    make(store, product())
    store.delete(receipts.ledger_path("clips/c", 0))
    with pytest.raises(ReelmillError, match=r"delete clips/c/_receipts/000000\.json and run again"):
        receipts.read_ledger(store, "clips/c", 0)


# ---------------------------------------------------------------- two writers at once


def test_the_slower_of_two_writers_keeps_what_stands(store) -> None:
    """A worker that outlives its killed run must not take back what the next run has made."""
    with receipts.begin(store, product(), UNIT) as slow:
        slow.file("clips-000000.tar").write(b"tar")
        receipt = make(store, product())
        written_ns = store.identity("clips/c/clips-000000.tar")
        assert slow.commit(LEDGER, items=2) == receipt
    assert store.identity("clips/c/clips-000000.tar") == written_ns
    assert receipts.load(store, "clips/c", 0) == receipt


def test_of_two_that_replace_a_stale_unit_the_one_that_dies_leaves_no_receipt_without_files(store, monkeypatch) -> None:
    make(store, product(fps=5), data=b"stale")
    delete = Store.delete

    def overtaken(self: Store, path: str) -> None:
        monkeypatch.setattr(Store, "delete", delete)
        make(self, product())  # the other comes through between this one's look and its first step
        delete(self, path)
        raise KeyboardInterrupt

    with receipts.begin(store, product(), UNIT) as slow:
        slow.file("clips-000000.tar").write(b"tar")
        monkeypatch.setattr(Store, "delete", overtaken)
        with pytest.raises(KeyboardInterrupt):
            slow.commit(LEDGER, items=2)
    assert receipts.load(store, "clips/c", 0) is None  # to be made once more
    assert store.read("clips/c/clips-000000.tar") == b"tar"
    assert receipts.read_ledger(store, "clips/c", 0) == LEDGER


def test_a_writer_of_old_settings_does_not_replace_what_the_next_run_made(store) -> None:
    with receipts.begin(store, product(fps=5), UNIT) as old:
        old.file("clips-000000.tar").write(b"old")
        receipts.write_card(store, card_of(product()))
        receipt = make(store, product())
        with pytest.raises(ReelmillError, match="was begun with other settings by another run"):
            old.commit(LEDGER, items=2)
    assert receipts.load(store, "clips/c", 0) == receipt
    assert store.read("clips/c/clips-000000.tar") == b"tar"


def test_a_writer_that_was_overtaken_while_it_sent_its_files_leaves_no_receipt_over_them(store, monkeypatch) -> None:
    """The next run, of other settings, made this unit while the files of a slow upload were under way."""
    publish = StagedFile.publish

    def slowly(staged: StagedFile) -> FileEntry:
        monkeypatch.setattr(StagedFile, "publish", publish)
        receipts.write_card(store, card_of(product()))
        make(store, product())
        return publish(staged)

    with receipts.begin(store, product(fps=5), UNIT) as old:
        old.file("clips-000000.tar").write(b"old")
        monkeypatch.setattr(StagedFile, "publish", slowly)
        with pytest.raises(ReelmillError, match="was begun with other settings by another run"):
            old.commit(LEDGER, items=2)
    assert receipts.load(store, "clips/c", 0) is None  # or it would say that the old bytes are the new ones
    make(store, product())
    assert store.read("clips/c/clips-000000.tar") == b"tar"


def test_a_card_that_can_not_be_read_now_is_not_as_if_there_were_none(store, monkeypatch) -> None:
    def away(*_: object) -> None:
        raise StorageError("storage did not answer")

    with receipts.begin(store, product(), UNIT) as writer:
        writer.file("clips-000000.tar").write(b"tar")
        monkeypatch.setattr(receipts, "read_card", away)
        with pytest.raises(StorageError, match="did not answer"):
            writer.commit(LEDGER, items=2)
    assert store.files("clips/c") == []


def test_files_of_another_kind_go_when_the_unit_is_made_anew(store) -> None:
    store.put("clips/c/maps-000000.tar", b"left by a killed run")
    with receipts.begin(store, product(), UNIT) as writer:
        writer.file("clips-000000.tar").write(b"tar")
        writer.commit(LEDGER, items=2, no_longer=["maps-000000.tar"])
    assert store.files("clips/c") == ["clips-000000.tar"]


def test_sweeping_bears_a_writer_that_is_still_dying(store) -> None:
    stop = threading.Event()

    def write_on() -> None:
        while not stop.is_set():
            with contextlib.suppress(StorageError, OSError), store.stage("clips/c/clips-000001.tar") as staged:
                staged.file.write(b"half")

    thread = threading.Thread(target=write_on)
    thread.start()
    try:
        for _ in range(5):
            receipts.sweep(store, "clips/c")
    finally:
        stop.set()
        thread.join()
    receipts.sweep(store, "clips/c")
    assert store.folders("clips/c") == []

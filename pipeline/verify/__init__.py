"""Verification: are a dataset's products what their cards say?

    reports = verify(Store("out/demo"))         # hashes, counts, and items of each product made again on this machine

Whatever is on storage is asked, never a config: it works on products that were made elsewhere, by anyone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from pipeline.graph import Plan, ProductKind
from pipeline.store import Store
from pipeline.verify import hashes, stored
from pipeline.verify.job import Job
from pipeline.verify.report import Comparison, NotCheckedError, ProductReport
from pipeline.verify.stored import Inputs, Stored
from pipeline.verify.videos import Videos
from pipeline.video.guard import Decoder
from schemas.config import Limits
from schemas.errors import ReelmillError, UsageError

__all__ = ["MIN_COSINE", "Comparison", "ProductReport", "verify"]

# imported on first use: features need torch. Each has check(job, stored, report). Heads are hashed only: training
# again is no matter of seconds.
KINDS: dict[ProductKind, str] = {
    "clips": "pipeline.verify.clips",
    "flow": "pipeline.verify.flow",
    "features": "pipeline.verify.features",
}
MIN_COSINE = 0.999
Progress = Callable[[str, int, int], None]


def verify(
    store: Store,
    *,
    products: Sequence[str] = (),
    plan: Plan | None = None,
    num_clips: int = 8,
    seed: int = 0,
    min_cosine: float = MIN_COSINE,
    weights: str | None = None,
    hashing: bool = True,
    progress: Progress = lambda what, num_bytes, total_bytes: None,
) -> list[ProductReport]:
    """Verify `products`, or all that there are: a report each.

    plan: of the dataset's config, where it has one; without it the receipts tell how the manifest was cut.
    num_clips: clips of each product that are made again, drawn with `seed`. 0: none.
    min_cosine: of each row of features to the one that is made again.
    weights: a file to use where the one that a card names is not at hand.
    progress: is told what is being looked at, how many more bytes were hashed, and how many there are in all.
    Raises UsageError where there is no such product, and for weights that no card names.
    """
    opened = [_open(store, path) for path in _wanted(store, products)]
    known = [found for _, found in opened if found is not None]
    if weights is not None:
        _require_named(weights, known)
    total_bytes = sum(entry.bytes for found in known for r in found.receipts.values() for entry in r.files)

    def tell(what: str, num_bytes: int) -> None:
        progress(what, num_bytes, total_bytes if hashing else 0)

    inputs = Inputs(store, _all(store, known), plan)
    with Decoder(Limits()) as decoder:
        job = Job(
            store=store,
            inputs=inputs,
            videos=Videos(inputs, decoder),
            num_clips=num_clips,
            seed=seed,
            min_cosine=min_cosine,
            weights=weights,
        )
        for report, found in opened:
            if found is not None:
                _check(job, found, report, plan=plan, hashing=hashing, progress=tell)
    return [report for report, _ in opened]


def _check(
    job: Job,
    found: Stored,
    report: ProductReport,
    *,
    plan: Plan | None,
    hashing: bool,
    progress: Callable[[str, int], None],
) -> None:
    stored.check_fingerprints(job.store, found, job.inputs, plan, report)
    progress(found.path, 0)

    def advance(num_bytes: int) -> None:
        progress(found.path, num_bytes)

    hashes.check_files(job.store, found, report, hashing=hashing, progress=advance)
    hashes.check_counts(job.store, found, job.inputs, report)
    if not job.num_clips or found.kind not in KINDS:
        return
    progress(f"{found.path}: made again", 0)
    try:
        import_module(KINDS[found.kind]).check(job, found, report)
    except NotCheckedError as error:
        report.unchecked.append(str(error))
    except ReelmillError as error:
        report.faults.append(str(error))


def _open(store: Store, path: str) -> tuple[ProductReport, Stored | None]:
    report = ProductReport(path)
    try:
        return report, stored.open_product(store, path, report)
    except ReelmillError as error:
        report.faults.append(str(error))
        return report, None


def _wanted(store: Store, products: Sequence[str]) -> list[str]:
    have = stored.find(store)
    for path in products:
        if path.strip("/") not in have:
            raise UsageError(f"--product {path}: {store.uri} has no such product, only {', '.join(have)}")
    asked = {path.strip("/") for path in products}
    return [path for path in have if path in asked or not asked]


def _all(store: Store, known: Sequence[Stored]) -> list[Stored]:
    """All products, for what their receipts tell of the units."""
    others = set(stored.find(store)) - {found.path for found in known}
    opened = (_open(store, path)[1] for path in sorted(others))
    return [*known, *(found for found in opened if found is not None)]


def _require_named(weights: str, known: Sequence[Stored]) -> None:
    """Raises UsageError for weights that no card of the features names."""
    from pipeline.backbones import identity

    sha256 = identity.file_sha256(weights)
    named = {f.path: str(f.card.details.get("weights", {}).get("sha256")) for f in known if f.kind == "features"}
    if sha256 not in named.values():
        were = " and ".join(f"{path} was made with {of[:12]}…" for path, of in named.items()) or "no features are here"
        raise UsageError(f"--weights {weights}: its sha256 is {sha256[:12]}…, and {were}; give that file")

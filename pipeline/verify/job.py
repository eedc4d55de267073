"""What every kind of product needs to be made again, and the items that are chosen for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pipeline.stages import package_versions
from pipeline.store import Store
from pipeline.verify.pick import per_unit, some_of
from pipeline.verify.report import ProductReport
from pipeline.verify.stored import Inputs, Stored, require_version
from pipeline.verify.videos import Members, Remade, Sample, Videos, clip_videos, stored_samples
from schemas.errors import ReelmillError


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One verification of a dataset."""

    store: Store
    inputs: Inputs
    videos: Videos
    num_clips: int  # of each product
    seed: int
    min_cosine: float
    weights: str | None  # a file in place of the one that the card names


# (job, product, unit, clip_id -> video_id) -> the samples as their videos give them
RemakeFunction = Callable[[Job, str, int, Mapping[str, str]], Remade]


def chosen(job: Job, stored: Stored, table: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(unit, clip_id -> video_id) of the clips that are made again; `table` names a unit's table, with {unit}."""
    num_items = {unit: receipt.items for unit, receipt in stored.sound.items()}
    for unit, count in per_unit(num_items, job.num_clips, seed=job.seed).items():
        of_unit = clip_videos(job.store, stored.path, unit, table.format(unit=unit))
        clip_ids = some_of(list(of_unit), count, unit=unit, seed=job.seed)
        yield unit, {clip_id: of_unit[clip_id] for clip_id in clip_ids}


def pairs(
    job: Job, stored: Stored, report: ProductReport, *, remake: RemakeFunction
) -> Iterator[tuple[str, Members, Sample]]:
    """(clip_id, stored members, the sample as its video gives it) of chosen samples of a clips or flow product.

    What can't be made again is reported: where the video can't be had as not checked, else as a fault.
    """
    for unit, wanted in chosen(job, stored, "_index/{unit:06d}.parquet"):
        remade = remake(job, stored.path, unit, wanted)
        tell(remade, report)
        for clip_id, members in stored_samples(job.store, stored.path, unit, list(remade.samples)):
            yield clip_id, members, remade.samples[clip_id]


class Difference(Protocol):
    """How far two samples are apart."""

    @property
    def problem(self) -> str | None:
        """A sentence where that is too far."""


D = TypeVar("D", bound=Difference)


def differences(
    job: Job,
    stored: Stored,
    report: ProductReport,
    *,
    remake: RemakeFunction,
    compare: Callable[[Job, str, Members, Sample], D],
) -> list[D]:
    """Of chosen samples of a clips or flow product and what their videos give; those too far apart are reported.

    Raises NotCheckedError where the product can't be made again here.
    """
    require_version(stored)
    found: list[D] = []
    for clip_id, members, again in pairs(job, stored, report, remake=remake):
        try:
            found.append(compare(job, stored.path, members, again))
        except ReelmillError as error:
            report.faults.append(f"clip {clip_id}: {error}")
            continue
        if found[-1].problem:
            report.faults.append(f"clip {clip_id}: {found[-1].problem}")
    return found


def tell(remade: Remade, report: ProductReport) -> None:
    """Report what could not be made again."""
    report.unchecked += [f"clip {clip_id} from its video: {sentence}" for clip_id, sentence in remade.unread.items()]
    report.faults += [f"clip {clip_id}: {sentence}" for clip_id, sentence in remade.lost.items()]


def note_unequal(stored: Stored, report: ProductReport, num: int) -> None:
    """A note where items differ within the bound, and nothing on the card explains why."""
    if num and not report.faults and package_versions(stored.kind) == stored.card.versions:
        report.notes.append(
            f"{num} clips differ within what rounding explains, though the packages here are the card's: another "
            "kind of processor would look like this, and so would settings that differ a little"
        )

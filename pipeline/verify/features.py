"""Features, extracted again as the card says: from the stored clips or flow, and end to end from the videos.

Rows that follow from the stored clips only show that the net, its weights and its preprocessing are the card's. That
the clips themselves are what their card says is shown by the videos alone.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline import backbones, receipts
from pipeline.backbones import identity, precision
from pipeline.backbones.engine import Engine
from pipeline.backbones.registry import entry
from pipeline.stages.clip_inputs import ClipInputs, Upstream, read_upstream
from pipeline.stages.clip_stream import Clip
from pipeline.stages.clip_stream import _facts as clip_of
from pipeline.stages.feature_rows import Row
from pipeline.threads import use_all_cores
from pipeline.verify import clips, flow
from pipeline.verify.job import Job, RemakeFunction, chosen, tell
from pipeline.verify.report import Comparison, NotCheckedError, ProductReport
from pipeline.verify.stored import Stored, require_version
from pipeline.verify.videos import Members, Remade, stored_samples
from schemas.config import Features
from schemas.errors import ReelmillError, UsageError

REMAKERS: dict[str, RemakeFunction] = {"clips": clips.remake, "flow": flow.remake}
Key = tuple[str, str, float]  # clip_id, view, start_s


def check(job: Job, stored: Stored, report: ProductReport) -> None:
    """Extract the rows of clips again and compare. Raises NotCheckedError where that is not possible here."""
    require_version(stored)
    extractor = Extractor(job, stored)
    from_store = _Origin(extractor.upstream.path, job.min_cosine)
    from_videos = _Origin("videos", job.min_cosine)
    table = "_index/{unit:06d}.parquet" if extractor.settings.dense else "part-{unit:06d}.parquet"
    for unit, wanted in chosen(job, stored, table):
        rows = _stored_rows(job, stored, unit, set(wanted), dense=extractor.settings.dense)
        samples = _upstream_samples(job, extractor.upstream, unit, list(wanted), report)
        remade = _remade(job, extractor.upstream, unit, wanted, report)
        from_store.compare(rows, extractor.rows(samples.items(), report), report)
        for clip_id, sample in remade.samples.items():
            if clip_id in samples and clips.same_frames(samples[clip_id], sample.members):
                from_videos.take_over(clip_id, from_store)  # equal inputs
            else:
                members = {**sample.members, "json": json.dumps(dict(sample.facts)).encode()}
                from_videos.compare(rows, extractor.rows([(clip_id, members)], report), report)
    for origin in (from_store, from_videos):
        if origin.cosines:
            values = tuple(cosine for of_clip in origin.cosines.values() for cosine in of_clip)
            report.comparisons.append(Comparison(origin.name, "rows", "cosine", values, extractor.words))
    if from_store.num_off:
        report.faults.append(
            "its rows do not follow from its card: other preprocessing, weights, layer or options made them"
        )
    elif from_videos.num_off:
        report.faults.append(
            f"its rows follow from the stored {from_store.name}, but not from the videos: {from_store.name} was not "
            "made as its card says"
        )


# ---------------------------------------------------------------- the net


class Extractor:
    """The net of a card, made ready on this machine.

    Raises NotCheckedError where the card names what this version or this machine has not.
    """

    def __init__(self, job: Job, stored: Stored) -> None:
        card = stored.card
        try:
            self.settings = Features.model_validate(card.settings)
        except ValueError as error:
            raise NotCheckedError.of_settings(stored.path, error) from None
        if self.settings.model not in backbones.names():
            have = ", ".join(backbones.names())
            raise NotCheckedError(f"its card names the model {self.settings.model!r}, and this version has {have}")
        self.upstream = _upstream(job, self.settings.source)
        try:
            expected, layer, used = card.details["weights"]["sha256"], card.details["layer"], card.details["precision"]
            on, self.words = _precision(used["used"], str(card.details["device"]))
        except (KeyError, TypeError) as error:
            raise NotCheckedError(f"its card does not say all that is needed ({error} is missing)") from None
        weights = _weights(self.settings, expected, job.weights)
        use_all_cores()
        device = precision.device()
        try:
            net = backbones.build(
                self.settings.model,
                weights=weights,
                options=self.settings.model_options,
                preprocess=self.settings.preprocess,
            )
        except ReelmillError as error:
            raise NotCheckedError(f"its net can't be built here ({error})") from None
        self._inputs = ClipInputs(self.upstream, net.spec, self.settings)
        self._engine = Engine(
            net,
            layer=layer,
            dense=self.settings.dense,
            precision=on,
            on=device,
            batch_size=self.settings.batch_size,
            meaning=self.upstream.level_meanings,
        )

    def rows(self, samples: Iterable[tuple[str, Members]], report: ProductReport) -> Iterator[tuple[Row, np.ndarray]]:
        """Each row of the samples with its (D,) or (C, T, H, W) float32; what can't be used is reported."""
        sent: deque[Row] = deque()

        def inputs() -> Iterator[np.ndarray]:
            for key, members in samples:
                try:
                    clip: Clip = clip_of(key, members)
                    frames = self._inputs.decode(clip, members)
                except ReelmillError as error:
                    report.faults.append(f"clip {key}: {error}")
                    continue
                for row, pixels in self._inputs.rows(clip, frames):
                    sent.append(row)
                    yield pixels

        for values in self._engine.run(inputs()):
            pooled = values.mean(axis=1, keepdims=True) if self.settings.time_pool == "mean" else values
            yield sent.popleft(), pooled


def _upstream(job: Job, source: str) -> Upstream:
    try:
        return read_upstream(job.store, source)
    except ValueError as error:
        raise NotCheckedError.of_settings(source, error) from None
    except ReelmillError:
        raise NotCheckedError(f"it was made from {source}, which is not beside it: no row can be made again") from None


def _weights(settings: Features, expected: str, given: str | None) -> str:
    """The weights of the card: by its own path, the file that is given, or a seed."""
    packaged = entry(settings.model).packaged
    problem = ""
    for weights in filter(None, (given, settings.weights)):
        try:
            found = identity.weights_sha256(weights, packaged=packaged)
        except UsageError as error:
            problem = problem or str(error)
            continue
        if found == expected:
            return weights
        problem = problem or f"{weights} has sha256 {found[:12]}…"
    raise NotCheckedError(
        f"the weights that its card names (sha256 {expected[:12]}…) are not at hand: {problem}; give their file with "
        "--weights"
    )


def _precision(used: precision.Used, device: str) -> tuple[precision.Precision, str]:
    """The card's precision where this machine is made for it, else fp32; and what to say of it."""
    on = precision.device()
    here = torch.cuda.get_device_name(on) if on.type == "cuda" else "cpu"
    fast = precision.choose("auto", on).used
    taken = precision.Precision(used if used in ("fp32", fast) else "fp32", "to verify")
    words = f"{taken.used} on {here}"
    return taken, words if (taken.used, here) == (used, device) else f"{words}; the card's are {used} on {device}"


# ---------------------------------------------------------------- what it is made from


def _upstream_samples(
    job: Job, upstream: Upstream, unit: int, wanted: list[str], report: ProductReport
) -> dict[str, Members]:
    """The stored samples of clips; none, and a sentence, where the shard is not there."""
    try:
        return dict(stored_samples(job.store, upstream.path, unit, wanted))
    except ReelmillError as error:
        report.unchecked.append(f"unit {unit:06d} from the stored {upstream.path}: {error}")
        return {}


def _remade(job: Job, upstream: Upstream, unit: int, wanted: dict[str, str], report: ProductReport) -> Remade:
    remake = REMAKERS[upstream.path.partition("/")[0]]
    try:
        remade = remake(job, upstream.path, unit, wanted)
    except NotCheckedError as error:
        report.unchecked.append(f"unit {unit:06d} end to end from the videos: {error}")
        return Remade()
    tell(remade, report)
    return remade


# ---------------------------------------------------------------- comparing


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a row that was made again compares with the stored one."""

    cosine: float
    length: float  # of the one made again, in lengths of the stored one


def agreement(stored: np.ndarray, again: np.ndarray) -> Agreement:
    """Of two arrays of one shape; two of zeros agree, and a NaN agrees with nothing."""
    a, b = stored.astype(np.float64).ravel(), again.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not any(lengths):
        return Agreement(1.0, 1.0)
    if not all(lengths):
        return Agreement(0.0, float("inf"))
    return Agreement(float(a @ b / (lengths[0] * lengths[1])), lengths[1] / lengths[0])


class _Origin:
    """Rows that were made again from one origin, by clip."""

    def __init__(self, name: str, min_cosine: float) -> None:
        self.name, self._min_cosine = name, min_cosine
        self._max_scale = sqrt(2 * (1 - min_cosine))  # as far as the bound lets vectors of one length lie apart
        self.cosines: dict[str, list[float]] = {}  # by clip_id
        self.num_off = 0
        self._problems: dict[str, list[str]] = {}

    def compare(
        self, stored: dict[Key, np.ndarray], remade: Iterator[tuple[Row, np.ndarray]], report: ProductReport
    ) -> None:
        for row, values in remade:
            key = (row.clip_id, row.view, row.start_s)
            where = f"clip {row.clip_id}, view {row.view}, from {row.start_s:g} s"
            self.cosines.setdefault(row.clip_id, [])
            if key not in stored:
                self._add(row.clip_id, f"{where}: {self.name} give this row, and it is not stored", report)
            elif stored[key].shape != values.shape:
                sizes = f"{stored[key].shape} is stored, and {values.shape} comes out"
                self._add(row.clip_id, f"{where}: {sizes}", report)
            else:
                found = agreement(stored[key], values)
                self.cosines[row.clip_id].append(found.cosine)
                if not found.cosine >= self._min_cosine:
                    sentence = f"cosine {found.cosine:.6f} to the row made again from {self.name}"
                    self._add(row.clip_id, f"{where}: {sentence}, under {self._min_cosine:g}", report)
                elif not abs(found.length - 1) <= self._max_scale:
                    sentence = f"the row made again from {self.name} is {found.length:.3f} times as long"
                    self._add(row.clip_id, f"{where}: {sentence}: another scale or normalisation", report)

    def take_over(self, clip_id: str, other: _Origin) -> None:
        """A clip whose input is the same to the byte gives the same rows; its faults are named already."""
        self.cosines[clip_id] = other.cosines.get(clip_id, [])
        self.num_off += len(other._problems.get(clip_id, []))

    def _add(self, clip_id: str, sentence: str, report: ProductReport) -> None:
        self._problems.setdefault(clip_id, []).append(sentence)
        self.num_off += 1
        report.faults.append(sentence)


def _stored_rows(job: Job, stored: Stored, unit: int, clip_ids: set[str], *, dense: bool) -> dict[Key, np.ndarray]:
    """The stored rows of clips. Raises ReelmillError where a file is damaged."""
    path = f"{stored.path}/_index/{unit:06d}.parquet" if dense else f"{stored.path}/part-{unit:06d}.parquet"
    last = "key" if dense else "embedding"
    only = [("clip_id", "in", sorted(clip_ids))]
    try:
        with job.store.open(path) as file:
            table = pq.read_table(file, columns=["clip_id", "view", "start_s", last], filters=only)
    except (OSError, pa.ArrowInvalid) as error:
        raise receipts.unreadable(path, stored.path, unit, error) from None
    keys: list[Key] = list(zip(*(table[name].to_pylist() for name in ("clip_id", "view", "start_s")), strict=True))
    if not dense:
        values: Any = np.stack(table["embedding"].to_pylist()).astype(np.float32) if keys else []
        return dict(zip(keys, values, strict=True))
    by_sample = dict(zip(table["key"].to_pylist(), keys, strict=True))
    return {
        by_sample[sample]: np.lib.format.read_array(BytesIO(members["npy"]), allow_pickle=False)
        for sample, members in stored_samples(job.store, stored.path, unit, list(by_sample))
    }

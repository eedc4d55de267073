"""The net of a features product, made ready on this machine as its card says."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from pipeline import backbones
from pipeline.backbones import identity, precision
from pipeline.backbones.engine import Engine
from pipeline.backbones.registry import entry
from pipeline.stages.clip_inputs import ClipInputs, Upstream, read_upstream
from pipeline.stages.clip_stream import clip_of
from pipeline.stages.feature_rows import Row
from pipeline.threads import use_all_cores
from pipeline.verify.job import Job
from pipeline.verify.report import NotCheckedError, ProductReport
from pipeline.verify.stored import Stored
from pipeline.verify.videos import Members
from schemas.config import Features
from schemas.errors import ReelmillError, UsageError


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
            self.precision, self.words = _precision(used["used"], str(card.details["device"]))
        except (KeyError, TypeError) as error:
            raise NotCheckedError(f"its card does not say all that is needed ({error} is missing)") from None
        weights = _weights(self.settings, expected, job.weights)
        use_all_cores()
        try:
            net = backbones.build(
                self.settings.model,
                weights=weights,
                options=self.settings.model_options,
                preprocess=self.settings.preprocess,
            )
        except ReelmillError as error:
            raise NotCheckedError(f"its net can't be built here ({error})") from None
        self.is_as_card = ";" not in self.words
        self._inputs = ClipInputs(self.upstream, net.spec, self.settings)
        self._engine = Engine(
            net,
            layer=layer,
            dense=self.settings.dense,
            precision=self.precision,
            on=precision.device(),
            batch_size=self.settings.batch_size,
            meaning=self.upstream.level_meanings,
        )

    def rows(self, samples: Iterable[tuple[str, Members]], report: ProductReport) -> Iterator[tuple[Row, np.ndarray]]:
        """Each row of the samples with its (D,) or (C, T, H, W) float32; what can't be used is reported."""
        sent: deque[Row] = deque()

        def inputs() -> Iterator[np.ndarray]:
            for key, members in samples:
                try:
                    clip = clip_of(key, members)
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

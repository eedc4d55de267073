"""How many workers each kind of product gets, and what each of them takes. Never part of a fingerprint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.section import Section

Kind = Literal["clips", "flow", "features", "heads"]


class Pool(Section):
    """The workers of one kind of product. What is not said comes from what the cluster has."""

    workers: int | None = Field(default=None, ge=1, le=100_000)
    cpus: float | None = Field(default=None, ge=0, le=1024)  # of each worker
    gpus: float | None = Field(default=None, ge=0, le=64)  # of each worker; 0.5: two workers share one

    @model_validator(mode="after")
    def _schedulable(self) -> Pool:
        for name, share in (("cpus", self.cpus), ("gpus", self.gpus)):
            if share is not None and share > 1 and share != int(share):
                raise ValueError(f"{name}: a share of one, such as 0.5, or a whole number, got {share:g}")
        return self


class Pools(Section):
    """By kind of product: `pools: {flow: {workers: 16}, features: {workers: 4, gpus: 1}}`."""

    clips: Pool = Pool()
    flow: Pool = Pool()
    features: Pool = Pool()
    heads: Pool = Pool()

    @model_validator(mode="after")
    def _sound(self) -> Pools:
        if self.clips.gpus:
            raise ValueError(f"clips.gpus: clips are decoded on CPUs, and {self.clips.gpus:g} GPUs would lie idle")
        for name in ("clips", "flow"):
            if self.of(name).cpus == 0:
                raise ValueError(
                    f"{name}.cpus: without a share of a CPU, nothing bounds how many workers start at once"
                )
        return self

    def of(self, kind: Kind) -> Pool:
        pool: Pool = getattr(self, kind)
        return pool

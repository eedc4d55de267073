"""One of the processes that train a head together: alone by default, or a rank of a torch process group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.training.batch_norm import share_batch_norms


@dataclass(frozen=True, slots=True)
class Worker:
    """`rank` of `world_size`. With more than one, a torch process group must be up already (Ray Train's is)."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """The first worker alone evaluates and writes."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module as a forward pass should call it: gradients are averaged over the workers, and its batch norms,
        which are replaced in place, take their statistics from the whole batch."""
        if self.world_size == 1:
            return module
        share_batch_norms(module)
        return DistributedDataParallel(module)

    def sum(self, value: float) -> float:
        """The sum of a number over all workers, in double precision."""
        if self.world_size == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64, device=_meeting_place())
        torch.distributed.all_reduce(box)
        return float(box)

    def agree(self, values: list[float]) -> list[float]:
        """The first worker's numbers, on all workers. Waits for everybody."""
        if self.world_size == 1:
            return values
        box = torch.tensor(values, dtype=torch.float64, device=_meeting_place())
        torch.distributed.broadcast(box, src=0)
        return [float(value) for value in box]


def _meeting_place() -> torch.device:
    """Where the workers exchange numbers: NCCL knows GPUs only."""
    return torch.device("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")

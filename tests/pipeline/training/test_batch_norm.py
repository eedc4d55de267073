"""Two processes that share a batch, and its norms, against one that has all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from pipeline.training.batch_norm import SharedBatchNorm, share_batch_norms
from pipeline.training.worker import Worker

TRAINING = """
import sys
import torch, torch.distributed
from torch import nn
from pipeline.training.batch_norm import count_items
from pipeline.training.worker import Worker

def train(worker):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv3d(2, 4, 3, bias=False), nn.BatchNorm3d(4, momentum=0.3), nn.ReLU(), nn.Conv3d(4, 3, 1),
                        nn.BatchNorm3d(3, momentum=None), nn.Flatten(), nn.Linear(3 * 8, 1)).double()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    forward = worker.wrap(net)
    for num in (7, 1, 4):  # of one item there is none for the second worker: it takes the same, and it must not count
        x = torch.randn(num, 2, 4, 4, 4, dtype=torch.float64) * torch.arange(1, num + 1).view(-1, 1, 1, 1, 1) + num
        has_some = worker.rank < num
        x = x[worker.rank :: worker.world_size] if has_some else x[:1] + 100
        weights = torch.full((len(x),), float(has_some))
        count_items(net, weights)
        loss = (forward(x)[:, 0].sin() * weights).sum()
        (loss * (worker.world_size / num)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.state_dict()

if __name__ == "__main__":
    rank, meeting, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=2)
    torch.save(train(Worker(rank, 2)), f"{out}.{rank}")
"""


def test_two_workers_take_the_steps_of_one(tmp_path: Path) -> None:
    words = [sys.executable, "-c", TRAINING]
    ends = [str(tmp_path / "meeting"), str(tmp_path / "weights")]
    workers = [subprocess.Popen([*words, str(rank), *ends]) for rank in (0, 1)]
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    space: dict[str, object] = {"__name__": "alone"}
    exec(TRAINING, space)
    alone = space["train"](Worker())  # type: ignore[operator]
    for rank in (0, 1):
        together = torch.load(tmp_path / f"weights.{rank}", weights_only=True)
        assert list(together) == list(alone)
        for name, value in alone.items():
            assert torch.allclose(together[name], value, rtol=0, atol=1e-12), name


def test_what_is_put_in_place_of_a_norm_has_its_parameters_and_answers_alike() -> None:
    net = nn.Sequential(nn.Conv3d(2, 4, 1), nn.Sequential(nn.BatchNorm3d(4))).eval()
    norm = net[1][0]  # type: ignore[index]
    x = torch.randn(2, 2, 3, 4, 4)
    before, state = net(x), {name: value.data_ptr() for name, value in net.state_dict().items()}
    share_batch_norms(net)
    shared = net[1][0]  # type: ignore[index]
    assert isinstance(shared, SharedBatchNorm)
    assert shared.weight is norm.weight
    assert not shared.training
    assert {name: value.data_ptr() for name, value in net.state_dict().items()} == state
    assert torch.equal(net(x), before)

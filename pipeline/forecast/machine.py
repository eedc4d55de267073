"""Which machine the probes run on."""

from __future__ import annotations

import platform
from pathlib import Path

from pipeline.forecast.worker import ask_once
from pipeline.threads import num_cores

DEVICES, GPU_DEVICES = Path("/dev"), ("nvidia[0-9]*", "dxg", "kfd")  # CUDA; under WSL; ROCm
CPU_INFO = Path("/proc/cpuinfo")


def gpus_here() -> list[str]:
    """The names of this machine's CUDA devices, asked in a process of its own: nothing of them stays in this one."""
    if not any(any(DEVICES.glob(pattern)) for pattern in GPU_DEVICES):
        return []  # at once: asking torch takes seconds
    return list(ask_once(_gpu_names))


def _gpu_names() -> list[str]:
    import torch  # a plan needs nothing else of it

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def machine_name(gpus: list[str]) -> str:
    """`Intel(R) Xeon(R) Processor, 2 cores, no GPU`."""
    text = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    cores = num_cores()
    what = f"{len(gpus)} × {gpus[0]}" if gpus else "no GPU"
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {cores} core{'' if cores == 1 else 's'}, {what}"

"""Whether a process still lives, told on real processes."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from pipeline.process import Process, cpu_s, fate, this_process


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def as_seen(child: subprocess.Popen[bytes]) -> Process:
    """What the child would say of itself."""
    stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return replace(this_process(), pid=child.pid, began=int(stat[19]))


def test_we_live() -> None:
    assert fate(this_process()) == "alive"


def test_a_killed_process_is_gone_even_before_its_parent_looks() -> None:
    child = sleeper()
    process = as_seen(child)
    try:
        assert fate(process) == "alive"
        child.send_signal(signal.SIGSTOP)
        assert fate(process) == "alive"  # it may wake up
    finally:
        child.kill()
    while fate(process) == "alive":
        continue
    assert child.returncode is None  # nobody has waited for it: a zombie
    assert fate(process) == "gone"
    child.wait()
    assert fate(process) == "gone"


def test_cpu_seconds_are_those_of_all_threads_and_none_of_nobody() -> None:
    burn = "import threading, time\nt = threading.Thread(target=lambda: sum(range(20_000_000)))\nt.start()\nt.join()\n"
    child = subprocess.Popen([sys.executable, "-c", f"{burn}print('done', flush=True)\ntime.sleep(600)"], stdout=-1)
    assert child.stdout is not None
    child.stdout.readline()
    burnt_s = cpu_s(child.pid)
    child.kill()
    while fate(as_seen(child)) == "alive":
        continue
    assert cpu_s(child.pid) >= burnt_s > 0  # nobody has waited for it: what it took is still known
    child.communicate()
    assert cpu_s(child.pid) == 0


def test_a_later_process_with_the_same_pid_is_another() -> None:
    assert fate(replace(this_process(), began=this_process().began - 1)) == "gone"


def test_of_other_machines_and_containers_nothing_is_known() -> None:
    here = this_process()
    assert here.realm  # boot and pid namespace
    for changed in ({"host": "elsewhere"}, {"realm": "another boot pid:[1]"}, {"realm": ""}):
        assert fate(replace(here, **changed)) == "unknown"

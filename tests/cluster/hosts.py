"""Separate hosts on one machine: each has its own network, name, processes, /tmp and shared memory.

    with Network() as network:
        storage, head = network.host("storage"), network.host("head")
        head.run("ray", "start", "--head", …)
        network.unplug(head)        # the link goes down, processes live on
        head.kill()                 # every process of it dies at once, as when a machine loses its power

A host is a set of Linux namespaces that one process holds, and its link is a pair of virtual devices to a switch (a
bridge) that is in namespaces, too. Nothing of it has a name outside: when the holders die, and they die with whoever
started them, the kernel removes processes, devices, mounts and networks. Needs root, and the programs of PROGRAMS.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

PROGRAMS = ("ip", "mount", "nsenter", "setpriv", "unshare")
SUBNET = "10.77.0"  # in a network that only the hosts see
ROOT = Path(__file__).resolve().parents[2]
# both programs pass on that their parent is gone, so that nothing outlives the tests, however they end
UNSHARE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--uts", "--pid", "--fork")
START_S = 30.0
RUN_S = 300.0


def why_not() -> str | None:
    """Why this machine can't have such hosts; None where it can."""
    if os.geteuid() != 0:
        return "hosts in namespaces need root"
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"hosts in namespaces need {', '.join(missing)}"
    if hidden := [folder for folder in (ROOT, Path(sys.prefix)) if folder.is_relative_to("/tmp")]:
        return f"hosts have a /tmp of their own, and {hidden[0]} is in this one's"
    tried = subprocess.run(
        [*UNSHARE, "ip", "link", "add", "type", "veth"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"this machine makes no namespaces: {tried.stderr.strip()}" if tried.returncode else None


class Namespaces:
    """Network, names, processes and mounts of their own, held by a shell that reaps whatever is left to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        prepare = (
            "hostname $0 && mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm && ip link set lo up "
            '&& printf "127.0.0.1 localhost $0\\n" > /tmp/hosts && mount --bind /tmp/hosts /etc/hosts '
            "&& touch /tmp/ready && sleep infinity & wait"
        )
        self._holder = subprocess.Popen(
            [*UNSHARE, "--kill-child", "--mount-proc", "bash", "-c", prepare, name],
            stdin=subprocess.DEVNULL,
        )
        self.pid = 0
        deadline = time.monotonic() + START_S
        while not self.is_ready():
            assert self._holder.poll() is None, f"host {name} did not start"
            assert time.monotonic() < deadline, f"host {name} is not there after {START_S:g} s"
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Whether its first process is there and has made its folders."""
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        self.pid = int(children[0]) if children else 0
        return bool(children) and self.path("/tmp/ready").exists()

    def path(self, inside: str) -> Path:
        """A file of the host, seen from here, while the host lives."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def kill(self) -> None:
        """kill -9 of all its processes at once."""
        self._holder.kill()  # takes the first process of the namespaces along, and that takes all others
        self._holder.wait()

    def has_process(self, name: str) -> bool:
        """Whether a process of this name lives on it."""
        for path in self.path("/proc").glob("[0-9]*/comm"):
            with suppress(OSError):  # it may end meanwhile
                if path.read_text().strip() == name:
                    return True
        return False

    def command(self, *words: str) -> list[str]:
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--uts", "--pid", f"--wd={ROOT}", "--"]
        return [*enter, *words]

    def run(self, *words: str, env: Mapping[str, str] | None = None, timeout_s: float = RUN_S) -> str:
        """Run a program on this host and give what it printed. It must succeed."""
        ended = subprocess.run(
            self.command(*words),
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert ended.returncode == 0, f"{self.name}: {words[0]}: {ended.stderr[-3000:]}{ended.stdout[-1000:]}"
        return ended.stdout

    def start(self, *words: str, log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a program on this host; it lives no longer than the host."""
        with log.open("ab") as file:
            return subprocess.Popen(
                self.command(*words),
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )


class Host(Namespaces):
    """Namespaces with an address on the network."""

    def __init__(self, name: str, address: str, port: str) -> None:
        super().__init__(name)
        self.address = address
        self.port = port  # its end of the cable at the switch


class Network:
    """A switch, and the hosts on it. Leaving the block kills all of them."""

    def __init__(self) -> None:
        self._switch = Namespaces("switch")
        self._hosts: list[Host] = []
        self._ip("link", "add", "bridge0", "type", "bridge")
        self._ip("link", "set", "bridge0", "up")

    def host(self, name: str) -> Host:
        """A new host with the next address of the subnet."""
        number = len(self._hosts) + 1
        host = Host(name, f"{SUBNET}.{number}", f"port{number}")
        self._hosts.append(host)
        peer = ("peer", "name", "eth0", "netns", str(host.pid))
        # the switch has processes of its own, in whose /proc the host's are not: so this runs with the switch's
        # network alone
        switch = ["nsenter", f"--target={self._switch.pid}", "--net", "ip", "link"]
        subprocess.run([*switch, "add", host.port, "type", "veth", *peer], check=True)
        self._ip("link", "set", host.port, "master", "bridge0", "up")
        host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        return host

    def unplug(self, host: Host) -> None:
        """Nothing reaches the host any more, nor does it reach anything; its processes go on."""
        self._ip("link", "set", host.port, "down")

    def plug(self, host: Host) -> None:
        self._ip("link", "set", host.port, "up")

    def _ip(self, *words: str) -> None:
        self._switch.run("ip", *words)

    def close(self) -> None:
        for host in self._hosts:
            host.kill()
        self._switch.kill()

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

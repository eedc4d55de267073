"""A local run opens no port to other machines: whatever its Ray listens on is bound to loopback. Others on the same
machine need the token of the user who runs it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import MARK, marked

LISTENS = "0A"  # the state of a socket, in /proc/net/tcp
SOCKET = re.compile(r"socket:\[(\d+)\]")
# a run as `reelmill run` has it: connected, tasks and an actor at work, Ray Data's own actors too
RUN = """
import sys, ray
from pipeline.runner import cluster, hearing
with cluster(workers=1), hearing(print):
    rows = ray.data.from_items([{"n": 1}], override_num_blocks=1).map(lambda row: {"n": row["n"] + 1})
    print("at work", [row["n"] for row in rows.iter_rows()], flush=True)
    sys.stdin.read()
"""

KNOCK = """
import sys
from ray._raylet import GcsClient
print(GcsClient(address=sys.argv[1]).get_all_node_info().popitem()[1].node_manager_address)
"""

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")]


def listening(pid: int) -> set[tuple[str, int]]:
    """The addresses and ports that a process listens on."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            match = SOCKET.match(str(link.readlink()))
        except OSError:
            continue
        if match:
            inodes.add(match[1])
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.add((_text(address), int(port, 16)))
    return found


def _text(address: str) -> str:
    """The kernel writes addresses as words in the machine's own order."""
    words = [
        bytes.fromhex(address[k : k + 8])[:: -1 if sys.byteorder == "little" else 1] for k in range(0, len(address), 8)
    ]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))


def is_loopback(address: str) -> bool:
    return address.startswith(("127.", "::ffff:127.")) or address == "::1"


@pytest.fixture(scope="module")
def at_work() -> Iterator[dict[int, set[tuple[str, int]]]]:
    """What each process of a run listens on."""
    mark = uuid.uuid4().hex
    run = subprocess.Popen(
        [sys.executable, "-c", RUN],
        env={**os.environ, MARK: mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "at work [2]\n"
        yield {pid: listening(pid) for pid in marked(mark)}
    finally:
        run.communicate(timeout=120)


def test_every_port_is_bound_to_loopback(at_work: dict[int, set[tuple[str, int]]]) -> None:
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in at_work}
    assert "raylet" in names.values()
    assert "gcs_server" in names.values()
    open_to_all = {
        (names[pid], address, port)
        for pid, sockets in at_work.items()
        for address, port in sockets
        if not is_loopback(address)
    }
    assert any(sockets for sockets in at_work.values())
    assert not open_to_all


def test_whoever_has_no_token_is_turned_away(at_work: dict[int, set[tuple[str, int]]]) -> None:
    (head,) = [pid for pid in at_work if Path(f"/proc/{pid}/comm").read_text().strip() == "gcs_server"]
    (port,) = {port for _, port in at_work[head]}
    answers = {}
    for mode in ("token", "disabled"):  # the token is in this user's ~/.ray
        knock = [sys.executable, "-c", KNOCK, f"127.0.0.1:{port}"]
        environment = {**os.environ, "RAY_AUTH_MODE": mode}
        answers[mode] = subprocess.run(knock, capture_output=True, text=True, check=False, env=environment)
    assert answers["token"].stdout == "127.0.0.1\n", answers["token"].stderr
    assert answers["disabled"].returncode != 0
    assert "AuthenticationError" in answers["disabled"].stderr


def test_the_check_sees_a_port_that_is_open() -> None:
    with socket.socket() as everywhere, socket.socket() as here, socket.socket(socket.AF_INET6) as six:
        for one, address in ((everywhere, "0.0.0.0"), (here, "127.0.0.1"), (six, "::")):
            one.bind((address, 0))
            one.listen()
        found = listening(os.getpid())
        expected = {("0.0.0.0", everywhere), ("127.0.0.1", here), ("::", six)}
        assert {(address, one.getsockname()[1]) for address, one in expected} <= found
    assert [is_loopback(address) for address in ("0.0.0.0", "::", "10.0.0.1", "127.0.0.1", "::1")] == [False] * 3 + [
        True
    ] * 2

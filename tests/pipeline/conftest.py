"""A server that answers as it is told: one object store's worth of HTTP, with each kind of trouble on demand."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any, BinaryIO

import pytest

BUSY = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>later</Message></Error>"


class ScriptedServer:
    """Objects in memory, and a list of troubles: each of the next requests of a kind takes one."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.troubles: dict[str, list[str]] = {"HEAD": [], "GET": [], "PUT": []}
        self.requests: list[str] = []
        self.released = threading.Event()
        server = self

        class Handler(_Handler):
            scripted = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.endpoint = f"127.0.0.1:{self._http.server_port}"

    def uri(self, path: str) -> str:
        return f"s3://bucket/{path}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    scripted: ScriptedServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(self.scripted.objects.get(self._key(), b""))

    def do_PUT(self) -> None:
        data = self._body()
        if self._is_spared():
            self.scripted.objects[self._key()] = data
            self._send(200, b"", {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    def _answer(self, data: bytes) -> None:
        if self._key() and self._key() not in self.scripted.objects:
            if self._is_spared():
                self._send(404, BUSY % b"NoSuchKey")
            return
        whole = self.scripted.objects.get(self._key(), b"")
        facts = {"ETag": f'"{hashlib.md5(whole).hexdigest()}"', "Last-Modified": "Sat, 01 Jan 2000 00:00:00 GMT"}
        status = 200
        if wanted := self.headers.get("Range"):
            first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
            data, status = data[first : last + 1], 206
            facts["Content-Range"] = f"bytes {first}-{last}/{len(whole)}"
        if self._is_spared(data):
            self._send(status, data, facts, length=len(whole) if self.command == "HEAD" else len(data))

    def _is_spared(self, data: bytes = b"") -> bool:
        """Whether there is no trouble for this request; else it was made."""
        self.scripted.requests.append(self.command)
        waiting = self.scripted.troubles[self.command]
        trouble = waiting.pop(0) if waiting else ""
        match trouble:
            case "":
                return True
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            case "silent":
                self.scripted.released.wait(60)
            case "truncated":
                self._send(206, data[: len(data) // 2], length=len(data))
            case "503":
                self._send(503, BUSY % b"SlowDown")
            case "500":
                self._send(500, b"")
            case "403":
                self._send(403, BUSY % b"AccessDenied")
        self.close_connection = True
        return False

    def _send(self, status: int, data: bytes, fields: dict[str, str] | None = None, *, length: int = -1) -> None:
        self.send_response(status)
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length if length >= 0 else len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _key(self) -> str:
        return self.path.partition("?")[0].removeprefix("/bucket").lstrip("/")

    def _body(self) -> bytes:
        """What was sent, out of HTTP's chunks and, inside them, the SDK's with its checksum at the end."""
        if length := self.headers.get("Content-Length"):
            return self.rfile.read(int(length))
        sent = b"".join(_chunks(self.rfile))
        self.rfile.readline()
        return b"".join(_chunks(BytesIO(sent))) if "aws-chunked" in self.headers["Content-Encoding"] else sent

    def log_message(self, *_: Any) -> None:
        pass


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while size := int(file.readline().partition(b";")[0], 16):
        yield file.read(size)
        file.readline()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ScriptedServer()
    yield server
    server.close()

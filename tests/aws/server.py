"""A small HTTP/1.1 server: one thread per connection, kept alive, TCP_NODELAY, no log.

It has only what the SDKs need: Content-Length and chunked bodies, `Expect: 100-continue`, and a
handler that may answer `None` to drop the connection without an answer.
"""

from __future__ import annotations

import http
import socket
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time
from typing import BinaryIO, Callable
from urllib.parse import unquote

MAX_LINE = 65536


@dataclass
class Request:
    method: str
    target: str  # as sent: path and query
    headers: dict[str, str]  # names in lower case; a repeated header is joined with a comma
    body: bytes

    @property
    def raw_path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Handler = Callable[[Request], "Response | None"]


class Server:
    """Listens at once; `serve` accepts until the process ends."""

    def __init__(self, host: str, port: int, handler: Handler):
        self.handler = handler
        self.socket = socket.create_server((host, port), backlog=1024)
        self.port: int = self.socket.getsockname()[1]

    def serve(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb", 65536) as stream:
                while (request := read_request(stream, connection)) is not None:
                    response = self.handler(request)
                    if response is None:
                        return
                    close = request.headers.get("connection", "").lower() == "close"
                    connection.sendall(encode(response, head=request.method == "HEAD", close=close))
                    if close:
                        return
        except (OSError, ValueError):
            pass  # the client went away or does not speak HTTP


def read_request(stream: BinaryIO, connection: socket.socket) -> Request | None:
    """The next request of a connection, or None when the client has closed it."""
    line = stream.readline(MAX_LINE)
    if not line:
        return None
    method, target, _version = line.decode("latin-1").split()
    headers: dict[str, str] = {}
    while (line := stream.readline(MAX_LINE)) not in (b"\r\n", b"\n"):
        if not line:
            return None
        name, separator, value = line.decode("latin-1").partition(":")
        if not separator:
            raise ValueError(f"not a header: {line!r}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = read_chunks(stream)
    else:
        length = int(headers.get("content-length", "0"))
        body = stream.read(length) if length else b""
        if len(body) < length:
            return None
    return Request(method, target, headers, body)


def read_chunks(stream: BinaryIO) -> bytes:
    parts = []
    while size := int(stream.readline(MAX_LINE).split(b";")[0], 16):
        parts.append(stream.read(size))
        stream.readline(MAX_LINE)
    while stream.readline(MAX_LINE) not in (b"\r\n", b"\n", b""):
        pass  # trailers
    return b"".join(parts)


def encode(response: Response, head: bool, close: bool) -> bytes:
    status = response.status
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}"]
    length = None
    for name, value in response.headers.items():
        lowered = name.lower()
        if lowered == "content-length":
            length = value
        elif lowered not in ("connection", "date", "status", "transfer-encoding"):
            lines.append(f"{name}: {value}")
    lines.append(f"Date: {date(int(time()))}")
    if not head:
        length = None if status in (204, 304) else len(response.body)
    if length is not None:
        lines.append(f"Content-Length: {length}")
    if close:
        lines.append("Connection: close")
    encoded = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
    return encoded if head or status in (204, 304) else encoded + response.body


_date = (0, "")


def date(second: int) -> str:
    global _date
    if _date[0] != second:
        _date = (second, formatdate(second, usegmt=True))
    return _date[1]

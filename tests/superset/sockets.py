"""WebSockets over HTTP/1.1 (RFC 6455), HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220), as small as a test needs.

A `Socket` speaks frames over a pipe; the pipes differ only in how they are opened.
"""
from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
import time
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.settings
import httpx
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode

import http3
from client import tls_context


ENABLE_CONNECT_PROTOCOL = 0x8  # of HTTP/3's settings


class Refused(Exception):
    """The handshake got no 101 (no 200 over HTTP/2 and HTTP/3)."""


class Unsupported(Exception):
    """The server does not offer WebSockets over this protocol."""


def _dial(base: str, ca: str | None, alpn: str) -> ssl.SSLSocket:
    url = urlsplit(base)
    context = tls_context(ca)
    context.set_alpn_protocols([alpn])
    raw = socket.create_connection((url.hostname, url.port or 443), timeout=10)
    tls = context.wrap_socket(raw, server_hostname=url.hostname)
    assert tls.selected_alpn_protocol() == alpn, f"negotiated {tls.selected_alpn_protocol()}"
    return tls


class Http1Pipe:
    """The bytes after a successful Upgrade."""

    def __init__(self, base: str, path: str, headers: dict[str, str], ca: str | None) -> None:
        self.tls = _dial(base, ca, "http/1.1")
        fields = {
            "Host": urlsplit(base).netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **headers,
        }
        head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
        self.tls.sendall(head.encode() + b"\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = self.tls.recv(4096)
            if not piece:
                raise Refused("closed without an answer")
            answer += piece
        status = answer.split(b" ", 2)[1].decode()
        if status != "101":
            self.close()
            raise Refused(f"status {status}")
        self.early = answer.split(b"\r\n\r\n", 1)[1]

    def send(self, data: bytes) -> None:
        self.tls.sendall(data)

    def receive(self, seconds: float) -> bytes:
        """At least a byte; nothing at the end; TimeoutError after `seconds`."""
        if self.early:
            data, self.early = self.early, b""
            return data
        self.tls.settimeout(seconds)
        return self.tls.recv(65536)

    def close(self) -> None:
        self.tls.close()


class Http2Pipe:
    """One stream, opened by an extended CONNECT."""

    def __init__(self, base: str, path: str, headers: dict[str, str], ca: str | None) -> None:
        self.tls = _dial(base, ca, "h2")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.data = b""
        self.status: str | None = None
        self.settled = self.ended = False
        self.h2.initiate_connection()
        self._flush()
        self._read_until(lambda: self.settled)
        # RFC 8441 §3: a client may use :protocol only after this setting.
        if self.h2.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL) != 1:
            self.close()
            raise Unsupported("no SETTINGS_ENABLE_CONNECT_PROTOCOL")
        self.stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(self.stream, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
            (":authority", urlsplit(base).netloc), (":path", path),
            ("sec-websocket-version", "13"), *((k.lower(), v) for k, v in headers.items()),
        ])
        self._flush()
        self._read_until(lambda: self.status or self.ended)
        if self.status != "200":
            self.close()
            raise Refused(f"status {self.status}" if self.status else "stream reset without an answer")

    def send(self, data: bytes) -> None:
        self.h2.send_data(self.stream, data)
        self._flush()

    def receive(self, seconds: float) -> bytes:
        until = time.monotonic() + seconds
        self._read_until(lambda: self.data or self.ended, until)
        data, self.data = self.data, b""
        return data

    def close(self) -> None:
        self.tls.close()

    def _flush(self) -> None:
        self.tls.sendall(self.h2.data_to_send())

    def _read_until(self, enough, until: float | None = None) -> None:
        until = until or time.monotonic() + 10
        while not enough():
            self.tls.settimeout(max(0.001, until - time.monotonic()))
            raw = self.tls.recv(65536)
            if not raw:
                self.ended = True
                return
            for event in self.h2.receive_data(raw):
                self._take(event)
            self._flush()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RemoteSettingsChanged():
                self.settled = True
            case h2.events.ResponseReceived():
                self.status = dict(event.headers)[":status"]
            case h2.events.DataReceived():
                self.data += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded() | h2.events.StreamReset() | h2.events.ConnectionTerminated():
                self.ended = True


class Http3Pipe:
    """One stream, opened by an extended CONNECT, on a connection of its own."""

    def __init__(self, base: str, path: str, headers: dict[str, str], ca: str | None) -> None:
        self.transport = http3.Transport(ca)
        self.stream: http3.Stream | None = None
        url = urlsplit(base)
        head = [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
            (":authority", url.netloc), (":path", path),
            ("sec-websocket-version", "13"), *((k.lower(), v) for k, v in headers.items()),
        ]
        try:
            http3.there(self._open(url, [(k.encode(), v.encode()) for k, v in head])).result(30)
        except BaseException:
            self.close()
            raise

    async def _open(self, url, head: list[tuple[bytes, bytes]]) -> None:
        connection = await self.transport.connect(url.hostname, url.port or 443)
        await asyncio.wait_for(connection.settled.wait(), 10)
        # RFC 9220 §3: a client may use :protocol only after this setting.
        if connection.http.received_settings.get(ENABLE_CONNECT_PROTOCOL) != 1:
            raise Unsupported("no SETTINGS_ENABLE_CONNECT_PROTOCOL")
        self.stream = connection.open(head, ends=False)
        try:
            status, _ = await asyncio.wait_for(self.stream.head(), 10)
        except httpx.HTTPError as e:
            raise Refused(str(e)) from e
        if status != 200:
            raise Refused(f"status {status}")

    def send(self, data: bytes) -> None:
        async def send() -> None:
            self.stream.send(data)

        http3.there(send()).result(10)

    def receive(self, seconds: float) -> bytes:
        return http3.there(asyncio.wait_for(self.stream.piece(), seconds)).result()

    def close(self) -> None:
        self.transport.close()


class Socket:
    """A WebSocket; answers the server's pings whenever it reads."""

    def __init__(self, base: str, path: str, protocol: str, ca: str | None, cookie: str | None = None) -> None:
        headers = {"Origin": base} | ({"Cookie": cookie} if cookie else {})
        self.pipe = {"h1": Http1Pipe, "h2": Http2Pipe, "h3": Http3Pipe}[protocol](base, path, headers, ca)
        self.frames = FrameProtocol(client=True, extensions=[])
        self.pings_seen = 0

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_) -> None:
        try:
            self.pipe.send(bytes(self.frames.close(1000)))
        except Exception:  # noqa: BLE001 - the check's own error must be seen, not this one
            pass
        self.pipe.close()

    def receive(self, seconds: float) -> Frame:
        """The next frame.  TimeoutError after `seconds`, ConnectionError at the end."""
        until = time.monotonic() + seconds
        while True:
            for frame in self.frames.received_frames():
                if frame.opcode is Opcode.PING:
                    self.pings_seen += 1
                    self.pipe.send(bytes(self.frames.pong(bytes(frame.payload))))
                return frame
            data = self.pipe.receive(max(0.001, until - time.monotonic()))
            if not data:
                raise ConnectionError("the WebSocket ended")
            self.frames.receive_bytes(data)

    def expect(self, opcode: Opcode, seconds: float) -> bytes | str:
        """The payload of the next frame of this kind; others are passed over."""
        until = time.monotonic() + seconds
        while True:
            frame = self.receive(until - time.monotonic())
            if frame.opcode is opcode:
                return frame.payload if isinstance(frame.payload, str) else bytes(frame.payload)

    def ping(self, payload: bytes) -> None:
        """Sends a ping and insists on its pong."""
        self.pipe.send(bytes(self.frames.ping(payload)))
        got = self.expect(Opcode.PONG, 10)
        assert got == payload, f"pong with {got!r}"

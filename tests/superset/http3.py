"""HTTP/3 on aioquic, for httpx and for WebSockets, as small as a test needs.

All connections live on one event loop in a thread of its own, so that httpx's clients of both kinds can use them.
"""
from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import AsyncExitStack

import httpx
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

CANCELLED, REJECTED = 0x10C, 0x10B  # RFC 9114 §8.1
PATIENCE = 120.0
# RFC 9114 §4.2: fields of a connection, which HTTP/3 does not have.
HOP_BY_HOP = {b"host", b"connection", b"keep-alive", b"transfer-encoding"}

_loop = asyncio.new_event_loop()
threading.Thread(target=_loop.run_forever, daemon=True, name="http3").start()


def there(coroutine):
    """Runs it on the loop of the connections."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop)


class Rejected(Exception):
    """The request was not processed and can be sent again (RFC 9114 §4.1.1)."""


class Stream:
    """One request and what comes back."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection, self.number = connection, number
        self.events: asyncio.Queue = asyncio.Queue()
        self.ended = False

    async def event(self) -> HeadersReceived | DataReceived:
        event = await self.events.get()
        if isinstance(event, Exception):
            self.ended = True
            raise event
        self.ended = event.stream_ended
        return event

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Status and fields."""
        event = await self.event()
        assert isinstance(event, HeadersReceived), event
        fields = [field for field in event.headers if not field[0].startswith(b":")]
        return int(dict(event.headers)[b":status"]), fields

    async def piece(self) -> bytes:
        """More of the body; nothing at its end."""
        while not self.ended:
            event = await self.event()
            if isinstance(event, DataReceived) and event.data:
                return event.data
        return b""

    def send(self, data: bytes, ends: bool = False) -> None:
        self.connection.http.send_data(self.number, data, end_stream=ends)
        self.connection.transmit()

    def leave(self) -> None:
        self.connection.streams.pop(self.number, None)
        if not self.ended:
            self.ended = True
            self.connection._quic.stop_stream(self.number, CANCELLED)
            self.connection.transmit()


class Connection(QuicConnectionProtocol):
    """aioquic's connection with HTTP/3 on it."""

    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        self.http = H3Connection(self._quic)
        self.streams: dict[int, Stream] = {}
        self.settled = asyncio.Event()
        self.gone = False

    def open(self, head: list[tuple[bytes, bytes]], ends: bool) -> Stream:
        number = self._quic.get_next_available_stream_id()
        stream = self.streams[number] = Stream(self, number)
        self.http.send_headers(number, head, end_stream=ends)
        self.transmit()
        return stream

    def quic_event_received(self, event) -> None:
        match event:
            case ConnectionTerminated():
                self.gone = True
                why = httpx.RemoteProtocolError(f"connection ended: {event.error_code:#x} {event.reason_phrase}")
                for stream in self.streams.values():
                    stream.events.put_nowait(why)
            case StreamReset() if event.stream_id in self.streams:
                rejected = event.error_code == REJECTED
                why = Rejected() if rejected else httpx.RemoteProtocolError(f"stream reset: {event.error_code:#x}")
                self.streams[event.stream_id].events.put_nowait(why)
        for event in self.http.handle_event(event):
            if isinstance(event, HeadersReceived | DataReceived) and event.stream_id in self.streams:
                self.streams[event.stream_id].events.put_nowait(event)
        if self.http.received_settings is not None:
            self.settled.set()


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A response's body as httpx reads it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def _next(self):
        return there(asyncio.wait_for(self.stream.piece(), PATIENCE))

    def __iter__(self):
        while piece := self._next().result():
            yield piece

    async def __aiter__(self):
        while piece := await asyncio.wrap_future(self._next()):
            yield piece

    def close(self) -> None:
        _loop.call_soon_threadsafe(self.stream.leave)

    async def aclose(self) -> None:
        self.close()


class Transport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """One connection, opened when it is needed and again when it is gone."""

    def __init__(self, ca: str | None) -> None:
        self.settings = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
        if ca:
            self.settings.load_verify_locations(ca)
        else:
            self.settings.verify_mode = ssl.CERT_NONE
        self.opening = asyncio.Lock()
        self.connection: Connection | None = None
        self.kept = AsyncExitStack()

    async def connect(self, host: str, port: int) -> Connection:
        async with self.opening:
            if self.connection is None or self.connection.gone:
                await self._leave()
                connecting = connect(host, port, configuration=self.settings, create_protocol=Connection)
                self.connection = await self.kept.enter_async_context(connecting)
            return self.connection

    async def _leave(self) -> None:
        self.connection = None
        await self.kept.aclose()

    async def _answer(self, request: httpx.Request, content: bytes) -> httpx.Response:
        url = request.url
        head = [(b":method", request.method.encode()), (b":scheme", b"https"),
                (b":authority", request.headers["Host"].encode()), (b":path", url.raw_path)]
        head += [(k.lower(), v) for k, v in request.headers.raw if k.lower() not in HOP_BY_HOP]
        for last in (False, True):
            connection = await self.connect(url.host, url.port or 443)
            stream = connection.open(head, ends=not content)
            if content:
                stream.send(content, ends=True)
            try:
                status, fields = await asyncio.wait_for(stream.head(), PATIENCE)
                break
            except Rejected:
                # After a goodbye; the next connection takes it.
                connection.gone = True
                if last:
                    raise httpx.RemoteProtocolError("rejected twice") from None
            except TimeoutError:
                stream.leave()
                raise httpx.ReadTimeout("no answer") from None
        return httpx.Response(status, headers=fields, stream=Pieces(stream), extensions={"http_version": b"HTTP/3"})

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return there(self._answer(request, request.read())).result()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await asyncio.wrap_future(there(self._answer(request, await request.aread())))

    def close(self) -> None:
        there(self._leave()).result()

    async def aclose(self) -> None:
        await asyncio.wrap_future(there(self._leave()))

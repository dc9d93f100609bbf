"""HTTP/3 clients that nobody here wrote, against the demo: aioquic, and Chromium by its own account.

    clients.py SLUICEGATE [--chromium]

Starts `sluicegate demo`, asks it over HTTP/3, ends it. Exits non-zero at the first thing that is not as it should be.
"""

import asyncio
import base64
import hashlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamReset

PATIENCE = 30


class Demo:
    """A running demo, its port and its certificate."""

    def __init__(self, binary):
        self.child = subprocess.Popen([binary, "demo"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = self.certificate = None
        for line in self.child.stdout:
            if found := re.search(r"https://localhost:(\d+)/superset", line):
                self.port = int(found[1])
            if found := re.search(r"--cacert (\S+)", line):
                self.certificate = found[1]
            if self.port and self.certificate:
                break
        else:
            raise SystemExit("the demo did not start")
        threading.Thread(target=self.child.stdout.read, daemon=True).start()

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        if self.child.wait(PATIENCE) != 0:
            raise SystemExit("the demo did not end well")


class Client(QuicConnectionProtocol):
    """aioquic's connection with HTTP/3 on it."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.http = H3Connection(self._quic)
        self.answers = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.answers[event.stream_id][2].set_exception(ConnectionError(f"reset {event.error_code:#x}"))
        for event in self.http.handle_event(event):
            if not isinstance(event, HeadersReceived | DataReceived) or event.stream_id not in self.answers:
                continue
            head, body, done = self.answers[event.stream_id]
            if isinstance(event, HeadersReceived):
                head.update({name.decode(): value.decode() for name, value in event.headers})
            else:
                body.extend(event.data)
            if event.stream_ended and not done.done():
                done.set_result(None)

    async def ask(self, method, path, content=b"", fields=()):
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = ({}, bytearray(), self._loop.create_future())
        head = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path), *fields]
        self.http.send_headers(stream, head, end_stream=not content)
        if content:
            self.http.send_data(stream, content, end_stream=True)
        self.transmit()
        head, body, done = self.answers[stream]
        await asyncio.wait_for(done, PATIENCE)
        return head, bytes(body)


    async def socket(self, path):
        """What a WebSocket (RFC 9220) says first."""
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = ({}, bytearray(), self._loop.create_future())
        self.http.send_headers(stream, [
            (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"),
            (b":authority", b"localhost"), (b":path", path), (b"sec-websocket-version", b"13")])
        self.transmit()
        head, body, _ = self.answers[stream]
        async with asyncio.timeout(PATIENCE):
            while len(body) < 2 or len(body) < 2 + body[1]:
                await asyncio.sleep(0.01)
        assert head[":status"] == "200", head
        # A masked Close (RFC 6455 §5.5.1) and the stream's end.
        self.http.send_data(stream, bytes([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]), end_stream=True)
        self.transmit()
        return bytes(body)


async def by_aioquic(demo):
    settings = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
    settings.load_verify_locations(demo.certificate)
    tickets = []
    async with connect("127.0.0.1", demo.port, configuration=settings, create_protocol=Client,
                       session_ticket_handler=tickets.append) as client:
        head, body = await client.ask(b"GET", b"/login/")
        assert head[":status"] == "200" and b"<html" in body, head
        head, body = await client.ask(b"GET", b"/demo/who")
        assert head[":status"] == "200", (head, body)
        answers = await asyncio.gather(*(client.ask(b"GET", b"/health") for _ in range(50)))
        wrong = [(head, body) for head, body in answers if head[":status"] != "200" or body != b"OK"]
        assert not wrong, wrong
        upload = os.urandom(3_000_000)
        length = [(b"content-length", str(len(upload)).encode())]
        head, _ = await client.ask(b"POST", b"/api/v1/database/1/upload/", upload, length)
        assert head[":status"] in ("200", "201"), head
        head, body = await client.ask(b"GET", b"/demo/export.csv?rows=200000")
        assert head[":status"] == "200" and body.count(b"\n") >= 200_000, (head, body.count(b"\n"))
        head, _ = await client.ask(b"GET", b"/version")
        assert head[":status"] == "404", head
        # A key update and a change of the connection's id in the middle of its life.
        client._quic.request_key_update()
        client.change_connection_id()
        head, body = await client.ask(b"GET", b"/health")
        assert body == b"OK", head
        tick = await client.socket(b"/ws")
        assert tick[0] == 0x81 and b'"tick":1' in tick, tick
    assert tickets, "no session ticket"
    settings.session_ticket = tickets[-1]
    async with connect("127.0.0.1", demo.port, configuration=settings, create_protocol=Client) as client:
        _, body = await client.ask(b"GET", b"/health")
        assert body == b"OK" and client._quic.tls.session_resumed
    print("aioquic: pages, 50 at once, an upload, a download, key update, another id, a WebSocket, resumption")


def call(driver, method, path, body=None):
    request = urllib.request.Request(f"{driver}{path}", method=method, data=None if body is None else json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


def by_chromium(demo):
    with open(demo.certificate, encoding="ascii") as file:
        der = ssl.PEM_cert_to_DER_cert(file.read())
    public = subprocess.run(["openssl", "x509", "-inform", "DER", "-pubkey", "-noout"], input=der, capture_output=True, check=True).stdout
    spki = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, capture_output=True, check=True).stdout
    pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    with tempfile.TemporaryDirectory() as profile:
        port = free_port()
        child = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        driver = f"http://127.0.0.1:{port}"
        try:
            for _ in range(200):
                try:
                    call(driver, "GET", "/status")
                    break
                except OSError:
                    time.sleep(0.1)
            arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
                         "--enable-quic", f"--origin-to-force-quic-on=localhost:{demo.port}",
                         f"--ignore-certificate-errors-spki-list={pin}"]
            options = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}}
            session = f"/session/{call(driver, 'POST', '/session', options)['sessionId']}"
            try:
                call(driver, "POST", f"{session}/url", {"url": f"https://localhost:{demo.port}/login/"})
                script = ("const of = e => [new URL(e.name).pathname, e.nextHopProtocol];"
                          "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].map(of)")
                entries = call(driver, "POST", f"{session}/execute/sync", {"script": script, "args": []})
                title = call(driver, "GET", f"{session}/title")
            finally:
                call(driver, "DELETE", session)
        finally:
            child.terminate()
            child.wait()
    assert entries and all(protocol == "h3" for _, protocol in entries), entries
    print(f"Chromium: {title!r}, by its own account: {entries}")


def free_port():
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    demo = Demo(sys.argv[1])
    try:
        asyncio.run(by_aioquic(demo))
        if "--chromium" in sys.argv:
            by_chromium(demo)
    finally:
        demo.end()


if __name__ == "__main__":
    main()

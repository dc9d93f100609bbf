"""Holds idle connections: `hold.py PORT tls-h1|tls-h2|tunnel FIRST MORE`.

Opens FIRST connections, prints `ready`, opens MORE after a line, prints how many, and holds all until its input ends. Each
has had one exchange. Every hundred come from an address of their own.
"""

import asyncio
import json
import sys

from browser import AGENT, UPGRADE, request, trusting

HELLO = request("/api/v1/me/", AGENT)
# RFC 9113 §3.4: the preface and empty SETTINGS; then GET https://localhost/ as RFC 7541 writes it, which ends its stream.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
FIELDS = b"\x82\x87\x84\x01\x09localhost"
REQUEST = len(FIELDS).to_bytes(3, "big") + b"\x01\x05\0\0\0\x01" + FIELDS
ACKNOWLEDGED = b"\0\0\0\x04\x01\0\0\0\0"


async def connect(port, number, context=None):
    # A name where there is TLS: some answer no client that tells none.
    name = {"server_hostname": "localhost"} if context else {}
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, local_addr=(f"127.0.1.{1 + number // 100}", 0), **name)


async def h1(port, number, context):
    reader, writer = await connect(port, number, context)
    writer.write(HELLO)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200" in head.split(b"\r\n")[0], head
    await reader.readexactly(1024)
    return writer


async def h2(port, number, context):
    reader, writer = await connect(port, number, context)
    writer.write(PREFACE + REQUEST)
    while True:
        head = await reader.readexactly(9)
        kind, flags = head[3], head[4]
        await reader.readexactly(int.from_bytes(head[:3], "big"))
        assert kind != 7, "GOAWAY"
        if kind == 4 and not flags & 1:
            writer.write(ACKNOWLEDGED)
        if kind in (0, 1) and flags & 1:
            return writer


async def tunnel(port, number, _):
    reader, writer = await connect(port, number)
    writer.write(UPGRADE)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head.split(b"\r\n")[0], head
    # A message of one byte, masked, and its echo.
    writer.write(b"\x81\x81\0\0\0\0x")
    assert await reader.readexactly(3) == b"\x81\x01x"
    return writer


KINDS = {"tls-h1": (h1, "http/1.1"), "tls-h2": (h2, "h2"), "tunnel": (tunnel, None)}


async def main():
    port, (opening, alpn), first, more = int(sys.argv[1]), KINDS[sys.argv[2]], int(sys.argv[3]), int(sys.argv[4])
    context = trusting(alpn) if alpn else None
    held = [await opening(port, number, context) for number in range(first)]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    held += [await opening(port, number, context) for number in range(first, first + more)]
    print(json.dumps({"done": more}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for writer in held:
        writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(main())

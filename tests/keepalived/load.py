"""Both ends of the load of tests/keepalived/run.

    load.py origin ADDRESS      answers like a Superset: /health, /short at once, /long after 3 s
    load.py http://ADDRESS      asks without end, and prints one JSON line for each request

Three kinds of requests: `fresh` on a new connection, fifty a second; `kept` on 20 connections that live on; `long` on 4
connections that wait for /long. Whoever fails tries again after 50 ms, as a browser would.
"""

import asyncio
import json
import sys
import time

LATE = 5.0


async def answer(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /long"):
                await asyncio.sleep(3)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


async def origin(address):
    server = await asyncio.start_server(answer, address, 8088, backlog=1024)
    await server.serve_forever()


def tell(kind, who, began, error=None):
    told = {"kind": kind, "who": who, "begin": began, "end": time.time(), "ok": error is None, "error": error}
    print(json.dumps(told), flush=True)


class Client:
    def __init__(self, host, path):
        self.host, self.path, self.open = host, path, None

    async def ask(self):
        if self.open is None:
            self.open = await asyncio.open_connection(self.host, 80)
        reader, writer = self.open
        writer.write(f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise OSError(head.split(b"\r\n")[0].decode())
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        # The server said that it will not take another one.
        if b"connection: close" in head.lower():
            self.close()

    def close(self):
        if self.open is not None:
            self.open[1].close()
            self.open = None

    async def once(self, kind):
        began = time.time()
        try:
            await asyncio.wait_for(self.ask(), LATE)
            tell(kind, id(self), began)
            return True
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            tell(kind, id(self), began, repr(error))
            self.close()
            return False


async def lasting(host, path, kind, pause):
    client = Client(host, path)
    while True:
        good = await client.once(kind)
        await asyncio.sleep(pause if good else 0.05)


async def fresh(host):
    client = Client(host, "/short")
    await client.once("fresh")
    client.close()


async def load(host):
    lasts = [lasting(host, "/short", "kept", 0.1) for _ in range(20)] + [lasting(host, "/long", "long", 0) for _ in range(4)]
    running = {asyncio.create_task(each) for each in lasts}
    while True:
        task = asyncio.create_task(fresh(host))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(0.02)


if sys.argv[1] == "origin":
    asyncio.run(origin(sys.argv[2]))
else:
    asyncio.run(load(sys.argv[1].removeprefix("http://")))

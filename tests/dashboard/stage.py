"""What the dashboard is looked at over: the demo's replicas, a proxy with zones, rules and limits, and a load on it."""

import asyncio
import json
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

PATIENCE = 30
TOKEN = "0123456789abcdefghijklmnop"

CONFIG = """
[process]
workers = 2
log = "warn"

[admin]
address = "127.0.0.1:{admin}"
token = {{ file = "token" }}

[access_log]
path = "access.log"

[[listeners]]
name = "https"
address = "127.0.0.1:{tls}"
certificate = "{directory}/demo.crt"
key = "{directory}/demo.key"

[[listeners]]
name = "http"
address = "127.0.0.1:{plain}"

[pools.superset]
endpoints = [
    {{ address = "{first}", zone = "a" }},
    {{ address = "{second}", zone = "a" }},
    {{ address = "{third}", zone = "b" }},
]
max_in_flight = 8

[pools.superset.health]
interval = "1s"

[[rules]]
name = "no-administration-from-outside"
path = ["/users", "/roles"]
action = "deny"
status = 404

[limits.client]
rate = "2000/s"
default = true
"""


class Demo:
    """The demo, for its replicas and its certificate."""

    def __init__(self, binary):
        self.child = subprocess.Popen([binary, "demo"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.said = ""
        for line in self.child.stdout:
            self.said += line
            if "Ctrl-C drains" in line:
                break
        else:
            raise SystemExit("the demo did not start")
        threading.Thread(target=self.child.stdout.read, daemon=True).start()
        self.admin = re.search(r"Watch +(http://\S+/)", self.said)[1]
        self.token = re.search(r"its token is (\S+)", self.said)[1]
        self.directory = str(Path(re.search(r"--cacert (\S+)", self.said)[1]).parent)
        status = look(f"{self.admin}status")
        self.replicas = [endpoint["name"] for endpoint in status["pools"][0]["endpoints"]]

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(PATIENCE)


class Proxy:
    """A proxy with a configuration of its own over the demo's replicas."""

    def __init__(self, binary, demo):
        self.home = tempfile.TemporaryDirectory()
        self.admin_port, self.tls, self.plain = free_ports(3)
        first, second, third = demo.replicas
        (Path(self.home.name) / "token").write_text(TOKEN)
        self.file = Path(self.home.name) / "sluicegate.toml"
        self.file.write_text(CONFIG.format(admin=self.admin_port, tls=self.tls, plain=self.plain, directory=demo.directory,
                                           first=first, second=second, third=third))
        self.url = f"http://127.0.0.1:{self.admin_port}/"
        self.child = subprocess.Popen([binary, "run", "--config", str(self.file)])
        until("the proxy", lambda: look(f"{self.url}status")["pools"][0]["endpoints"][2]["standing"] == "up")

    def status(self):
        return look(f"{self.url}status")

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(PATIENCE)
        self.home.cleanup()


class Load(threading.Thread):
    """Requests as a Superset has them, a few of them wrong."""

    def __init__(self, port, clients):
        super().__init__(daemon=True)
        self.port, self.clients, self.stopped = port, clients, False
        self.start()

    def run(self):
        asyncio.run(self.all())

    async def all(self):
        await asyncio.gather(*(self.client(number) for number in range(self.clients)))

    async def client(self, number):
        dice = random.Random(number)
        while not self.stopped:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                while not self.stopped:
                    await self.exchange(reader, writer, *self.request(dice))
                    await asyncio.sleep(dice.uniform(0, 0.05))
                writer.close()
            except (OSError, asyncio.IncompleteReadError, EOFError, ValueError):
                await asyncio.sleep(0.1)

    @staticmethod
    def request(dice):
        at = dice.random()
        if at < 0.01:
            return "POST", "/api/v1/sqllab/execute/"
        if at < 0.03:
            return "GET", "/users/list/"
        if at < 0.05:
            return "GET", "/nothing/here"
        if at < 0.25:
            return "GET", f"/demo/export.csv?rows={dice.randrange(100, 20000)}"
        return "GET", dice.choice(["/demo/who", "/login/", "/health"])

    @staticmethod
    async def exchange(reader, writer, method, path):
        body = b"{}" if method == "POST" else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if found := re.search(r"content-length: (\d+)", answer):
            await reader.readexactly(int(found[1]))
        elif "transfer-encoding: chunked" in answer:
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        if "connection: close" in answer:
            raise EOFError

    def stop(self):
        self.stopped = True
        self.join(PATIENCE)


def look(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def until(what, true):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if true():
                return
        except (OSError, IndexError, KeyError):
            pass
        time.sleep(0.05)
    raise SystemExit(f"waited in vain for {what}")


def free_ports(count):
    import socket
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports

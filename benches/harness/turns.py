"""One proxy, measured once."""

import http.client
import os
import re
import subprocess
import time

from . import proc, session
from .clients.browser import BROWSER, SMALL, trusting
from .stand import Wrong


class Bench:
    """A stand, and what turns remember of each other."""

    def __init__(self, stand, built):
        # Load generators of ours, by name.
        self.stand, self.built = stand, built
        self.rates, self.capacities, self.scenario = {}, {}, ""

    def body(self, size):
        """A file of that size."""
        path = self.stand.dir / f"body-{size}"
        if not path.exists():
            path.write_bytes(b"x" * size)
        return path

    def fitted(self, proxy, seconds, first, call):
        """A load that counts requests, of as many as fill the seconds by the last turn's rate."""
        key = (proxy.pid, self.scenario)
        requests = max(first // 4, round(self.rates[key] * seconds)) if key in self.rates else first

        def go():
            done = call(requests)
            self.rates[key] = done.requests / done.seconds
            return done
        return go, lambda: None

    def capacity(self, proxy, closed_loop):
        """Requests per second in a closed loop, measured once for each scenario."""
        key = (proxy.pid, self.scenario)
        if key not in self.capacities:
            done = closed_loop()
            proxy.expect(*done.lines)
            self.capacities[key] = done.requests / done.seconds
        return self.capacities[key]


def turn(bench, proxy, load, seconds, warm):
    """What the proxy took while a load asked it."""
    proxy.verify()
    if warm:
        go, end = load(bench, proxy, min(0.3, seconds))
        proxy.expect(*go().lines)
        end()
    go, end = load(bench, proxy, seconds)
    cpu, busy, load_busy, began = proc.cpu_seconds(proxy.pid), proc.busy_seconds(0), proc.busy_seconds(1), time.monotonic()
    try:
        done = go()
        wall = time.monotonic() - began
        cpu = proc.cpu_seconds(proxy.pid) - cpu
        busy, load_busy = proc.busy_seconds(0) - busy, proc.busy_seconds(1) - load_busy
        rss = proc.resident_kib(proxy.pid) / 1024
    finally:
        end()
    proxy.expect(*done.lines)
    if proxy.child.poll() is not None:
        raise Wrong(f"{proxy.name}: ended")
    return {
        "cpu_us": cpu / done.requests * 1e6,
        "rate": done.requests / done.seconds,
        "p50": done.p50,
        "p99": done.p99,
        "p999": done.p999,
        "rss": rss,
        "busy": cpu / wall,
        "foreign": max(0.0, busy - cpu) / wall,
        "load_busy": load_busy / wall,
        "requests": done.requests,
        **({} if done.late is None else {"late": done.late}),
    }


def preflight(proxy):
    """Each kind of request once: statuses, bodies to the byte, what the origin took of them. Returns the cipher that loads get."""
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.ports["TLS"], context=trusting(), timeout=30)
    kinds = [session.Kind(1, SMALL, 1024), *session.KINDS, session.Kind(1, "/upload", 1024, body=1 << 20)]
    kinds += [session.Kind(1, f"/{path}", size) for path, size in session.FILES.items()]
    kinds.append(session.Kind(1, "/streamed/upload", 1024, body=1 << 20))
    for kind in kinds:
        fields = {**BROWSER, **({"If-Modified-Since": session.RECENT} if kind.cached else {}), "Host": "localhost"}
        connection.request("POST" if kind.body else "GET", kind.path, os.urandom(kind.body) if kind.body else None, fields)
        answer = connection.getresponse()
        size = len(answer.read())
        if answer.status != (304 if kind.cached else 200) or size != kind.answer:
            raise Wrong(f"{proxy.name}: {kind.path}: {answer.status} with {size} bytes")
        if kind.path.endswith("upload") and int(answer.headers["X-Taken"]) < kind.body:
            raise Wrong(f"{proxy.name}: {kind.path}: of {kind.body} bytes {answer.headers['X-Taken']} arrived")
        proxy.expect(1, 1)
    connection.close()
    told = proc.output("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.ports['TLS']}", "-servername", "localhost",
                       stdin=subprocess.DEVNULL, env=proxy.client_environment)
    proxy.expect(0, 1)
    cipher = re.search(r"Cipher is (TLS_\S+)", told)
    return cipher[1] if cipher else None

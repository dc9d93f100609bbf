"""What is asked of every proxy: a table."""

import dataclasses
import functools
from collections.abc import Callable

from . import loads, peers, session
from .clients.browser import BROWSER, SMALL

KIB, MIB = 1 << 10, 1 << 20
# A closed loop of this much fits what is measured; an answer of 10 MiB is a long one.
CONNECTIONS = 64
TUNNELS, MESSAGE = 200, 280
CLIENTS = 6


@dataclasses.dataclass(frozen=True)
class Scenario:
    title: str
    # What one turn asks: given the bench, a proxy and seconds, a call that loads and one that ends what it held.
    load: Callable
    # What is counted.
    unit: str = "request"
    # Whether a short turn goes before, so that connections, pages and caches are warm.
    warm: bool = True
    http3: bool = False
    # Whether latencies are those of an open loop.
    open_loop: bool = False
    # Proxies that have no part in it.
    without: tuple[str, ...] = ()

    def suits(self, name):
        return name not in self.without and (peers.PEERS[name].http3 or not self.http3)


def plainly(call, *arguments, **more):
    return functools.partial(call, *arguments, **more), lambda: None


def small(tls, **fields):
    def load(bench, proxy, seconds):
        return plainly(loads.wrk, proxy, proxy.url(tls), CONNECTIONS, seconds, KIB, **fields)
    return load


def fitted(tls, h1, path, size, connections, streams, first, body=None):
    """By h2load, which counts requests: `first` of them in the first turn, then as many as the last one says fit."""
    def load(bench, proxy, seconds):
        def call(requests):
            return loads.h2load(proxy, proxy.url(tls, path), requests, connections, streams, size, h1=h1,
                                body=body and bench.body(body), latencies=str(bench.stand.dir / "latencies"))
        return bench.fitted(proxy, seconds, first, call)
    return load


def over_http3(path, size, connections, streams, first):
    def load(bench, proxy, seconds):
        def call(requests):
            return loads.h3load(proxy, bench.built["h3load"], requests, connections, streams, path, size)
        return bench.fitted(proxy, seconds, first, call)
    return load


def bodies(path, size):
    def load(bench, proxy, seconds):
        script = f'wrk.method = "POST"\nwrk.body = string.rep("x", {size})\n'
        return plainly(loads.wrk, proxy, proxy.url(False, path), 8, seconds, KIB, script)
    return load


def client(name, port, *arguments, lines=None):
    """By one of our own; `port` is the name of the proxy's."""
    def load(bench, proxy, seconds):
        at = proxy.ports["TUNNELS" if name == "tunnels" and proxy.name == "floor" else port]
        fill = {"SECONDS": seconds}
        ready = loads.Client(proxy, loads.script(name), at, *(fill.get(each, each) for each in arguments))
        expected = lines(proxy) if callable(lines) else lines
        return functools.partial(loads.told, ready, expected), ready.end
    return load


def of_tunnels(proxy):
    count = TUNNELS * proxy.peer.tunnel_lines
    return count, count


def recorded(bench, proxy, seconds):
    mean = sum(kind.count * kind.answer for kind in session.KINDS) / sum(kind.count for kind in session.KINDS)
    script = session.script(BROWSER, "localhost")
    # Which of the large answers a turn meets is chance.
    return plainly(loads.wrk, proxy, proxy.url(True, "/"), 32, seconds, mean, script, fields=[], slack=0.5)


def steady(kind):
    """At 70 % of what the proxy did in a closed loop just before, in the first round."""
    tls, connections = kind != "plain-h1", 16 if kind == "tls-h2" else CONNECTIONS

    def closed_loop(proxy):
        if kind == "tls-h2":
            return loads.h2load(proxy, proxy.url(True), 8000, 16, 16, KIB)
        return loads.wrk(proxy, proxy.url(tls), CONNECTIONS, 0.7, KIB)

    def load(bench, proxy, seconds):
        rate = 0.7 * bench.capacity(proxy, functools.partial(closed_loop, proxy))
        ready = loads.Client(proxy, bench.built["steady"], proxy.ports["TLS" if tls else "PLAIN"], kind, rate, seconds, connections)
        return functools.partial(loads.told, ready, connections), ready.end
    return load


PROTOCOLS = {"plain-h1": "Plain HTTP/1.1", "tls-h1": "TLS 1.3, HTTP/1.1", "tls-h2": "TLS 1.3, HTTP/2", "h3": "HTTP/3"}
OVER_TCP = [kind for kind in PROTOCOLS if kind != "h3"]
LARGE = [("100 KiB", 100 * KIB, "100k", "/files/100k", 16, 4, 400), ("10 MiB", 10 * MIB, "10m", "/files/10m", 4, 1, 12)]

SCENARIOS = {
    "plain-h1": Scenario(f"{PROTOCOLS['plain-h1']}, 1 KiB, 64 connections", small(False)),
    "tls-h1": Scenario(f"{PROTOCOLS['tls-h1']}, 1 KiB, 64 connections", small(True)),
    "tls-h2": Scenario(f"{PROTOCOLS['tls-h2']}, 1 KiB, 16 connections of 16 streams", fitted(True, False, SMALL, KIB, 16, 16, 2000)),
    "h3": Scenario(f"{PROTOCOLS['h3']}, 1 KiB, 16 connections of 16 streams", over_http3(SMALL, KIB, 16, 16, 1000), http3=True),
    **{f"{short}-{kind}": Scenario(f"{PROTOCOLS[kind]}, answers of {words}",
                                   fitted(kind != "plain-h1", kind != "tls-h2", path, size, connections, streams if kind == "tls-h2" else 1, first))
       for words, size, short, path, connections, streams, first in LARGE
       for kind in OVER_TCP},
    **{f"{short}-h3": Scenario(f"{PROTOCOLS['h3']}, answers of {words}", over_http3(path, size, connections, streams, first // 2), http3=True)
       for words, size, short, path, connections, streams, first in LARGE},
    "upload": Scenario("Plain HTTP/1.1, bodies of 1 MiB, collected where the proxy does so", bodies("/upload", MIB)),
    "upload-streamed": Scenario("Plain HTTP/1.1, bodies of 1 MiB, passed on as they come", bodies("/streamed/upload", MIB)),
    "handshakes-full": Scenario("Full TLS 1.3 handshakes, each with one request", client("handshakes", "TLS", "full", CLIENTS, "SECONDS"),
                                unit="handshake", warm=False),
    "handshakes-resumed": Scenario("Resumed TLS 1.3 handshakes, each with one request",
                                   client("handshakes", "TLS", "resumed", CLIENTS, "SECONDS", lines=CLIENTS), unit="handshake", warm=False),
    "websocket": Scenario(f"WebSocket messages of {MESSAGE} bytes and their echoes, {TUNNELS} tunnels",
                          client("tunnels", "PLAIN", TUNNELS, "SECONDS", MESSAGE, lines=of_tunnels), unit="message and echo", warm=False),
    "churn": Scenario("Plain HTTP/1.1, 1 KiB, a connection for each request, 64 at once",
                      small(False, fields=[*loads.FIELDS, "-H", "Connection: close"])),
    "session": Scenario("A session of Superset over TLS 1.3, HTTP/1.1, 32 connections", recorded),
    **{f"steady-{kind}": Scenario(f"{PROTOCOLS[kind]}, 1 KiB, an open loop at 70 % of capacity", steady(kind), warm=False, open_loop=True)
       for kind in OVER_TCP},
}

"""Memory of an idle connection: the growth of resident memory, by connections that have had one exchange and rest.

A fresh process each time. The first tenth is opened before the first look, so that what a process makes once is not
counted. Does not depend on what else the machine does.
"""

import resource
import subprocess
import time

from . import loads, peers, proc
from .scenarios import PROTOCOLS
from .stand import LOAD_CORE, Wrong

KINDS = {
    "idle-tls-h1": PROTOCOLS["tls-h1"],
    "idle-tls-h2": PROTOCOLS["tls-h2"],
    "idle-tunnel": "tunnel, without TLS",
    "idle-h3": PROTOCOLS["h3"],
}
# Resident memory counts once it has stayed within so many KiB for a second: allocators give back what starting took.
STILL, PATIENCE = 64, 10.0


def settled(proxy):
    """Resident memory, KiB."""
    last, deadline = proc.resident_kib(proxy.pid), time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(1)
        now = proc.resident_kib(proxy.pid)
        if abs(now - last) <= STILL:
            break
        last = now
    return now


def possible(wanted):
    """As many as descriptors allow: ours takes half of them for clients, and a tunnel needs two."""
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1] * 4 // 10)


def over_tcp(proxy, kind, first, more):
    port = "TUNNELS" if proxy.name == "floor" and kind == "tunnel" else "PLAIN" if kind == "tunnel" else "TLS"
    holding = loads.Client(proxy, loads.script("hold"), proxy.ports[port], kind, first, more)
    try:
        before = settled(proxy)
        holding.run()
        time.sleep(1)
        return settled(proxy) - before
    finally:
        holding.end()


def over_quic(bench, proxy, first, more):
    def hold(count):
        child = subprocess.Popen(["taskset", "-c", LOAD_CORE, bench.built["h3load"], f"127.0.0.1:{proxy.ports['TLS']}", "0", str(count), "0", "60"],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        holding.append(child)
        if "open" not in child.stdout.readline():
            raise Wrong(f"{proxy.name}: {count} QUIC connections cannot be held")

    holding = []
    try:
        hold(first)
        before = settled(proxy)
        hold(more)
        time.sleep(1)
        return settled(proxy) - before
    finally:
        for child in holding:
            child.kill()
            child.wait()


def measure(bench, key, names, options, tell):
    """KiB a connection, by name."""
    count = possible(options.connections)
    found, failures = {}, {}
    for name in names:
        if key == "idle-h3" and not peers.PEERS[name].http3:
            continue
        proxy = None
        try:
            proxy = bench.stand.start(name)
            if key == "idle-h3":
                grown = over_quic(bench, proxy, count // 10, count)
            else:
                grown = over_tcp(proxy, key.removeprefix("idle-"), count // 10, count)
            found[name] = grown / count
            tell(f"{key}   {name:<11} {found[name]:6.1f} KiB")
        except Wrong as why:
            failures[name] = str(why)
            tell(f"{key}   {name:<11} FAILED: {why}")
        finally:
            if proxy:
                bench.stand.stop(proxy.child)
    return {"title": KINDS[key], "connections": count, "kib": found, "failures": failures}

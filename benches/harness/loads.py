"""Loads: each asks a proxy and tells what came of it, or ends the run when an answer was not what it must be."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

from .clients.browser import BROWSER
from .proc import output
from .stand import CLIENTS, LOAD_CORE, Wrong

FIELDS = [argument for field in BROWSER.items() for argument in ("-H", ": ".join(field))]
# Printed by wrk at its end, with latencies in microseconds.
WRK_DONE = """
function done(summary, latency)
    local e = summary.errors
    print(string.format("DONE %d %d %d %d %d %d %d %d", summary.requests, summary.bytes, summary.duration,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
        e.connect + e.read + e.write + e.timeout, e.status))
end
"""


@dataclasses.dataclass
class Done:
    """What a load did."""

    requests: int
    seconds: float
    # Milliseconds.
    p50: float
    p99: float
    p999: float
    # Lines that the log must have of it, at least and at most; one for each request unless told otherwise.
    lines: tuple[int, int] | None = None
    # Milliseconds by which the client itself was late, at the 99th percentile.
    late: float | None = None

    def __post_init__(self):
        self.lines = self.lines or (self.requests, self.requests)


def percentiles(times, unit=1e3):
    """p50, p99 and p99.9 in ms of sorted seconds."""
    return [times[min(len(times) - 1, int(len(times) * share))] * unit for share in (0.5, 0.99, 0.999)]


def wrk(proxy, url, connections, seconds, size, script="", fields=FIELDS, slack=0.0):
    """A closed loop over HTTP/1.1, of answers of `size` bytes, on average if there is slack."""
    path = f"{os.environ.get('TMPDIR', '/tmp')}/sluicegate-wrk-{os.getpid()}.lua"
    with open(path, "w", encoding="ascii") as file:
        file.write(script + WRK_DONE)
    child = subprocess.Popen(["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", "-d600s", "-s", path, *fields, url],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=proxy.client_environment)
    try:
        time.sleep(seconds)
        child.send_signal(signal.SIGINT)  # it takes whole seconds only, but this whenever it comes
        text = child.communicate(timeout=30)[0]
    finally:
        child.kill()
        os.unlink(path)
    found = re.search(r"DONE (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", text)
    if not found:
        raise Wrong(f"{url}: {text[-500:]}")
    requests, taken, micros, p50, p99, p999, broken, refused = map(int, found.groups())
    if broken or refused or not requests:
        raise Wrong(f"{url}: {requests} answers, {refused} of a wrong status, {broken} connections broken")
    # Heads have up to 2 KiB; of answers under way at the end a part is counted.
    least, most = requests * size * (1 - slack), (requests * (1 + slack) + connections) * (size + 2048)
    if not least <= taken <= most:
        raise Wrong(f"{url}: {requests} answers of {size} bytes were {taken} bytes")
    return Done(requests, micros / 1e6, p50 / 1e3, p99 / 1e3, p999 / 1e3, (requests, requests + 2 * connections))


def h2load(proxy, url, requests, connections, streams, size, h1=False, body=None, latencies=None):
    """Exactly `requests` requests, each answered 200 with `size` bytes."""
    log = [f"--log-file={latencies}"] if latencies else []
    sent = [f"--data={body}"] if body else []
    began = time.monotonic()
    text = output("taskset", "-c", LOAD_CORE, "h2load", *(["--h1"] if h1 else []), f"-n{requests}", f"-c{min(connections, requests)}",
                  f"-m{streams}", *log, *sent, *FIELDS, url, env=proxy.client_environment)
    seconds = time.monotonic() - began
    good, data = re.search(r"status codes: (\d+) 2xx", text), re.search(r"\((\d+)\) data", text)
    if not good or int(good[1]) != requests:
        raise Wrong(f"{url}: not all answered 200: {text[-500:]}")
    if size is not None and int(data[1]) != requests * size:
        raise Wrong(f"{url}: {requests} answers of {size} bytes were {data[1]} bytes")
    if not latencies:
        return Done(requests, seconds, 0, 0, 0)
    with open(latencies, encoding="ascii") as lines:
        times = sorted(int(line.split("\t")[2]) for line in lines)
    os.remove(latencies)
    return Done(requests, seconds, *percentiles(times, 1e-3))


def h3load(proxy, binary, requests, connections, streams, path=None, size=None):
    """Exactly `requests` requests over HTTP/3, each answered 200 with `size` bytes."""
    port, began = proxy.ports["TLS"], time.monotonic()
    text = output("taskset", "-c", LOAD_CORE, binary, f"127.0.0.1:{port}", str(requests), str(min(connections, requests)), str(streams),
                  *(["0", path] if path else []), env=proxy.client_environment)
    seconds = time.monotonic() - began
    found = re.search(r"(\d+) requests, (\d+) bytes, p50 ([\d.]+) ms, p99 ([\d.]+) ms, p99.9 ([\d.]+) ms", text)
    if not found or int(found[1]) != requests:
        raise Wrong(f"port {port}: not all answered: {text[:500]}")
    if size is not None and int(found[2]) != requests * size:
        raise Wrong(f"port {port}: {requests} answers of {size} bytes were {found[2]} bytes")
    return Done(requests, seconds, *map(float, found.groups()[2:]))


def script(name):
    """One of `clients`."""
    return CLIENTS / f"{name}.py"


class Client:
    """A program that says when it is ready to begin."""

    def __init__(self, proxy, program, *arguments):
        self.name = os.path.basename(program)
        interpreter = [sys.executable] if self.name.endswith(".py") else []
        self.child = subprocess.Popen(["taskset", "-c", LOAD_CORE, *interpreter, program, *map(str, arguments)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                      env=proxy.client_environment)
        if self.child.stdout.readline().strip() != "ready":
            raise Wrong(f"{self.name}: {self.end()}")

    def run(self):
        """What it tells when it is done; it stays until `end`."""
        self.child.stdin.write("go\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise Wrong(f"{self.name}: {self.end()}")
        return json.loads(line)

    def end(self):
        try:
            # Of a Python's complaint the last line says what it is about.
            return self.child.communicate(timeout=30)[1].strip().rpartition("\n")[2][:500]
        except (subprocess.TimeoutExpired, ValueError):
            self.child.kill()
            self.child.wait()
            return ""


def told(client, lines=None):
    """Lets a client of `clients` run. `lines` are those of the log, if not one for each thing done; or beyond these, if one number."""
    told = client.run()
    if isinstance(lines, int):
        lines = (told["done"] + lines, told["done"] + lines)
    late = told.get("late")
    return Done(told["done"], told["wall"], *percentiles(told["times"]), lines, late and late * 1e3)

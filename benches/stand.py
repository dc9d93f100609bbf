"""The stand that `compare` and `instructions` share: an origin, proxies with equivalent configurations, loads.

Everything runs on loopback, on free ports, below one temporary directory, and ends with the stand.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PROXY_CORE, LOAD_CORE = "0", "1"
PEERS = ["sluicegate", "nginx", "haproxy"]
# Sluicegate's access log, `@DIR@` being the stand's directory: a file in JSON, nothing but what the flight recorder keeps
# (the default keeps some), and not even that.
LOGS = {
    "file": 'path = "@DIR@/sluicegate.log"\nrotate_size = "0B"',
    "off": 'target = "off"',
    "none": 'target = "off"\n[recorder]\nrecords = 0',
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def build(profile):
    """The binary of `profile`, built unless SLUICEGATE_BIN names one."""
    if named := os.environ.get("SLUICEGATE_BIN"):
        return named
    subprocess.run(["cargo", "build", "--locked", "--profile", profile, "--bin", "sluicegate"], cwd=ROOT, check=True)
    return str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / profile / "sluicegate")


def version(name, binary):
    text = output(binary, "version") if name == "sluicegate" else output(binary, "-v")
    return (re.search(r"\d+\.\d+\.\d+\S*", text) or ["?"])[0]


def tree(pid):
    """`pid` and its descendants."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                children = pathlib.Path(f"/proc/{each}/task/{task}/children").read_text()
                found += [int(child) for child in children.split()]
    return found


def cpu_seconds(pid):
    """User plus system time of a process tree. The kernel's nanoseconds on the CPU where it tells them."""
    total = 0.0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            exact = 0
            for task in os.listdir(f"/proc/{each}/task"):
                exact += int(pathlib.Path(f"/proc/{each}/task/{task}/schedstat").read_text().split()[0])
            total += exact / 1e9 if exact else ticks
    return total


def resident_kib(pid):
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            found = re.search(r"^Rss:\s+(\d+)", pathlib.Path(f"/proc/{each}/smaps_rollup").read_text(), re.M)
            total += int(found[1]) if found else 0
    return total


def busy_seconds(core):
    """Time that one core was not idle."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return 0.0


class Stand:
    """An origin and whatever proxies are started on it."""

    def __init__(self, binary):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sluicegate-bench-"))
        self.binaries = {"sluicegate": binary, "nginx": shutil.which("nginx") or "/usr/sbin/nginx", "haproxy": shutil.which("haproxy") or "/usr/sbin/haproxy"}
        self.children = []
        self.access_log = "file"
        self.more = ""  # what else stands in Sluicegate's configuration
        self.origin_port = free_port()
        self.ports = {}
        (self.dir / "secret").write_bytes(os.urandom(48).hex().encode())
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", self.dir / "key.pem", "-out", self.dir / "certificate.pem"],
            check=True, capture_output=True)
        (self.dir / "both.pem").write_text((self.dir / "certificate.pem").read_text() + (self.dir / "key.pem").read_text())
        conf = self.fill("origin.conf", ORIGIN=self.origin_port, KIB="x" * 1024)
        self.origin = self.spawn([self.binaries["nginx"], "-c", conf], LOAD_CORE)
        self.await_port(self.origin, self.origin_port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            self.stop(child)
        shutil.rmtree(self.dir, ignore_errors=True)

    def fill(self, template, **values):
        text = (HERE / "peers" / template).read_text()
        for name, value in {**values, "DIR": self.dir}.items():
            text = text.replace(f"@{name}@", str(value))
        path = self.dir / template
        path.write_text(text)
        return str(path)

    def spawn(self, command, core, stdout=subprocess.DEVNULL):
        errors = open(self.dir / "stderr", "ab")
        child = subprocess.Popen(["taskset", "-c", core, *command], stdout=stdout, stderr=errors)
        self.children.append(child)
        return child

    def await_port(self, child, port, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            if child.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"{child.args}: does not listen\n{(self.dir / 'stderr').read_text(errors='replace')}")

    def start(self, name, under=(), master="on"):
        """Starts a proxy on the proxy's core; `under` is a command to run it with."""
        ports = self.ports[name] = {"PLAIN": free_port(), "TLS": free_port(), "ADMIN": free_port()}
        template = {"sluicegate": "sluicegate.toml", "nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[name]
        conf = self.fill(template, LOG=LOGS[self.access_log], MORE=self.more, ORIGIN=self.origin_port, MASTER=master, **ports)
        arguments = {"sluicegate": ["run", "--config", conf], "nginx": ["-c", conf], "haproxy": ["-db", "-f", conf]}[name]
        with open(self.log(name), "ab") as log:
            child = self.spawn([*under, self.binaries[name], *arguments], PROXY_CORE, log if name == "haproxy" else subprocess.DEVNULL)
        for port in (ports["PLAIN"], ports["TLS"]):
            self.await_port(child, port)
        self.await_answer(name)
        return child

    def await_answer(self, name):
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[name]["PLAIN"]), 2) as probe:
                probe.sendall(b"GET /warm HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if b" 200 " in probe.recv(64):
                    return
            time.sleep(0.1)
        raise SystemExit(f"{name}: does not answer 200\n{(self.dir / 'stderr').read_text(errors='replace')}")

    def stop(self, child):
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def log(self, name):
        return self.dir / f"{name}.log"

    def take_lines(self, name):
        """Lines logged since the last look; the log is emptied."""
        path = self.log(name)
        size, since = -1, time.monotonic()
        while time.monotonic() - since < 5:  # buffers are flushed within a second
            time.sleep(0.4)
            now = path.stat().st_size
            if now == size and time.monotonic() - since > 1.3:
                break
            size = now
        lines = int(output("grep", "-c", '"request_id"', str(path)))
        os.truncate(path, 0)
        return lines

    def url(self, name, tls):
        scheme, port = ("https", "TLS") if tls else ("http", "PLAIN")
        return f"{scheme}://127.0.0.1:{self.ports[name][port]}/api/v1/chart/data?form_data=%7B%22slice_id%22%3A64%7D"


BROWSER = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Accept: application/json",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9",
    "Referer: https://bi.example.com/superset/dashboard/3/",
    "Cookie: session=.eJwlzjkOwjAQAMC_uKbYw2s7-Qzay4Q2IRXi70Ri5gPvsq8jzqfYXscZt2L78rIVJ0dwnSl1QJVJg3nCkC",
]


def browser_headers():
    return [argument for field in BROWSER for argument in ("-H", field)]


def wrk(url, connections, seconds):
    """Requests done, p50 and p99 in ms, from a closed loop over HTTP/1.1."""
    text = output("taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *browser_headers(), url)
    if bad := re.search(r"Non-2xx.*|Socket errors: .*", text):
        raise SystemExit(f"{url}: {bad[0]}")
    ms = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    percentile = lambda which: (lambda found: float(found[1]) * ms[found[2]])(re.search(rf"{which}%\s+([\d.]+)(us|ms|s)", text))
    return int(re.search(r"(\d+) requests in", text)[1]), percentile(50), percentile(99)


def h2load(url, requests, connections, streams, h1=False, latencies=None):
    """Exactly `requests` requests; p50 and p99 in ms when `latencies` names a file to use."""
    log = [f"--log-file={latencies}"] if latencies else []
    text = output("taskset", "-c", LOAD_CORE, "h2load", *(["--h1"] if h1 else []), f"-n{requests}", f"-c{connections}", f"-m{streams}", *log, *browser_headers(), url)
    found = re.search(r"status codes: (\d+) 2xx", text)
    if not found or int(found[1]) != requests:
        raise SystemExit(f"{url}: not all answered 200\n{text}")
    if not latencies:
        return requests, None, None
    with open(latencies, encoding="ascii") as lines:
        micros = sorted(int(line.split("\t")[2]) for line in lines)
    os.remove(latencies)
    return requests, micros[len(micros) // 2] / 1e3, micros[len(micros) * 99 // 100] / 1e3


def h3load(binary, port, requests, connections, streams):
    """p50 and p99 in ms of exactly `requests` requests over HTTP/3."""
    text = output("taskset", "-c", LOAD_CORE, binary, f"127.0.0.1:{port}", str(requests), str(connections), str(streams))
    found = re.search(r"(\d+) requests, p50 ([\d.]+) ms, p99 ([\d.]+) ms", text)
    if not found or int(found[1]) != requests:
        raise SystemExit(f"port {port}: not all answered\n{text[-2000:]}")
    return float(found[2]), float(found[3])


def h3load_built(profile):
    """The load generator of HTTP/3, built."""
    done = subprocess.run(["cargo", "bench", "--locked", "--profile", profile, "--no-run", "--bench", "h3load"], cwd=ROOT,
                          check=True, capture_output=True, text=True)
    return re.search(r"\((\S*h3load\S*)\)", done.stderr)[1]

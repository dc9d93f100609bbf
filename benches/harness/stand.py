"""The stand: an origin, proxies with equivalent configurations before it, and their logs.

Everything runs on loopback, on free ports, below one temporary directory, and ends with the stand.
"""

import contextlib
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from . import peers, session
from .clients.browser import SMALL
from .proc import output

HERE = pathlib.Path(__file__).resolve().parents[1]
ROOT = HERE.parent
CLIENTS = HERE / "harness" / "clients"
PROXY_CORE, LOAD_CORE = "0", "1"
# All clients that use OpenSSL offer one cipher of TLS 1.3, since some proxies heed the client's order and some their own.
ONE_CIPHER = """openssl_conf = all
[all]
ssl_conf = tls
[tls]
system_default = offered
[offered]
Ciphersuites = TLS_AES_128_GCM_SHA256
"""

class Wrong(Exception):
    """The work was not done."""


# What of Sluicegate's configuration `start` may leave out.
FEATURES = ["log", "limits", "health", "metrics", "tunnels"]


def free_port():
    """A port that is free for TCP and for UDP."""
    while True:
        with socket.socket() as probe, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            probe.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                datagrams.bind(probe.getsockname())
                return probe.getsockname()[1]


def build(profile):
    """The binary of `profile`, built unless SLUICEGATE_BIN names one."""
    if named := os.environ.get("SLUICEGATE_BIN"):
        return named
    subprocess.run(["cargo", "build", "--locked", "--profile", profile, "--bin", "sluicegate"], cwd=ROOT, check=True)
    return str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / profile / "sluicegate")


def loads_of(keys):
    """The load generators of ours that these scenarios want."""
    wanted = {"h3load": any("h3" in key for key in keys), "steady": any(key.startswith("steady") for key in keys)}
    return [name for name, needed in wanted.items() if needed]


def load_built(name, profile):
    """A load generator of ours, built unless the environment names one, as H3LOAD_BIN and STEADY_BIN."""
    if named := os.environ.get(f"{name.upper()}_BIN"):
        return named
    done = subprocess.run(["cargo", "bench", "--locked", "--profile", profile, "--no-run", "--bench", name], cwd=ROOT,
                          check=True, capture_output=True, text=True)
    return re.search(rf"\((\S*{name}-\S*)\)", done.stderr)[1]


class Proxy:
    """One that runs: its process, ports and log."""

    def __init__(self, name, peer, child, ports, log, logs=True):
        self.name, self.peer, self.child, self.ports, self.log, self.logs = name, peer, child, ports, log, logs
        self.expected, self.asked_last = [0, 0], 0.0

    @property
    def pid(self):
        return self.child.pid

    @property
    def client_environment(self):
        """What loads are run with."""
        return {**os.environ, "OPENSSL_CONF": str(self.log.parent / "openssl.cnf"), "RUST_BACKTRACE": "0"}

    def url(self, tls, path=SMALL):
        scheme, port = ("https", "TLS") if tls else ("http", "PLAIN")
        return f"{scheme}://127.0.0.1:{self.ports[port]}{path}"

    def expect(self, least, most):
        """So many lines more belong in the log."""
        if self.expected:
            self.expected = [self.expected[0] + least, self.expected[1] + most]
        self.asked_last = time.monotonic()

    def forget(self):
        """Something went wrong: what is in the log until the next look says nothing."""
        self.expected, self.asked_last = None, time.monotonic()

    def verify(self):
        """Fails unless the log has a line for everything that was asked since the last look; empties it."""
        if self.peer.marker is None or not self.logs:
            return
        # Buffers are flushed within a second.
        time.sleep(max(0.0, self.asked_last + 1.4 - time.monotonic()))
        found = int(output("grep", "-c", "-e", self.peer.marker, str(self.log)))
        os.truncate(self.log, 0)
        expected, self.expected = self.expected, [0, 0]
        least, most = expected or (found, found)
        if not least <= found <= most:
            raise Wrong(f"{self.name}: {found} lines in the log, of {least} to {most}")


class Stand:
    """An origin and whatever proxies are started on it."""

    def __init__(self, binary, named=None):
        self.named = {name: os.path.abspath(program) for name, program in {"sluicegate": binary, **(named or {})}.items()}
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sluicegate-bench-"))
        self.children = []
        self.origin_ports = {"ORIGIN": free_port(), "ORIGIN_TLS": free_port(), "ECHO": free_port()}
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        try:
            self.prepare()
        except BaseException:
            self.__exit__()
            raise

    def prepare(self):
        (self.dir / "secret").write_bytes(os.urandom(48).hex().encode())
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", self.dir / "key.pem", "-out", self.dir / "certificate.pem"],
            check=True, capture_output=True)
        (self.dir / "openssl.cnf").write_text(ONE_CIPHER)
        (self.dir / "both.pem").write_text((self.dir / "certificate.pem").read_text() + (self.dir / "key.pem").read_text())
        session.write_files(self.dir / "www")
        program = peers.find("nginx", self.named) or sys.exit("the origin is Debian's nginx: apt-get install nginx")
        listens = "\n".join(f"        listen {address};" for address in self.endpoints(1000)[1:])
        conf = self.fill("origin.conf", "origin", LISTENS=listens, KIB="x" * 1024)
        self.origin = self.spawn([program, "-c", conf], LOAD_CORE)
        self.await_port(self.origin, self.origin_ports["ORIGIN"])
        self.echo = self.spawn([sys.executable, CLIENTS / "echo.py", str(self.origin_ports["ECHO"])], LOAD_CORE)
        self.await_port(self.echo, self.origin_ports["ECHO"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            self.stop(child)
        shutil.rmtree(self.dir, ignore_errors=True)

    def endpoints(self, count):
        """So many addresses under which the origin listens."""
        port = self.origin_ports["ORIGIN"]
        return [f"127.0.0.1:{port}", *(f"127.0.{4 + number // 250}.{1 + number % 250}:{port}" for number in range(1, count))]

    def fill(self, template, name, without=(), **values):
        text = (HERE / "peers" / template).read_text()
        for feature in FEATURES:
            dropped = feature if feature in without else f"no {feature}"
            text = re.sub(rf"^# {dropped} {{\n.*?^# }} {dropped}\n", "", text, flags=re.M | re.S)
        # Twice, since what is filled in may have names of its own.
        for _ in range(2):
            for key, value in {"DIR": self.dir, "NAME": name, **self.origin_ports, **values}.items():
                text = text.replace(f"@{key}@", str(value))
        if left := re.search(r"@[A-Z_]+@", text):
            raise ValueError(f"{template}: nothing for {left[0]}")
        path = self.dir / template.replace(template.partition(".")[0], name, 1)
        path.write_text(text)
        return str(path)

    def spawn(self, command, core, stdout=subprocess.DEVNULL, **more):
        with open(self.dir / f"stderr-{len(self.children)}", "ab") as errors:
            child = subprocess.Popen(["taskset", "-c", core, *command], stdout=stdout, stderr=errors, **more)
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
        raise Wrong(f"{child.args[3]}: does not listen: {self.errors(child)}")

    def errors(self, child):
        """The end of what it complained of."""
        return (self.dir / f"stderr-{self.children.index(child)}").read_text(errors="replace")[-500:]

    def start(self, name, under=(), master="on", workers=1, cores=PROXY_CORE, endpoints=1, routes=0, without=(), more=""):
        """Starts a proxy; `under` is a command to run it with, `routes` are further ones, `/r0/` and so on."""
        peer = peers.PEERS[name]
        instance = f"{name}-{len(self.children)}"
        ports = {key: free_port() for key in ("PLAIN", "TLS", "ADMIN", "TUNNELS")}
        log = self.dir / f"{instance}.log"
        log.touch()
        values = dict(
            ports, LOG=log, WORKERS=workers, MASTER=master, MORE=more,
            ENDPOINTS=peer.endpoints(self.endpoints(endpoints)), ROUTES=peer.routes([f"/r{number}/" for number in range(routes)]),
            REUSE=" reuseport" if workers > 1 else "",
            HTTP2="" if name == "nginx-http3" else " http2",
            QUIC=f"        http2 on;\n        quic_gso on;\n        listen 127.0.0.1:{ports['TLS']} quic reuseport;" if name == "nginx-http3" else "")
        (self.dir / f"{instance}.map").write_text("".join(f"/r{number}/ origin\n" for number in range(routes)))
        conf = [self.fill(template, instance, without, **values) for template in peer.templates][0]
        program = peers.find(name, self.named) or sys.exit(f"{name}: not found")
        with open(log, "ab") as out:
            child = self.spawn([*under, program, *peer.arguments(conf, workers)], cores, out if peer.logs_to_stdout else subprocess.DEVNULL,
                               env={**os.environ, **peer.environment(workers), "HOME": str(self.dir)}, cwd=self.dir)
        proxy = Proxy(name, peer, child, ports, log, logs="log" not in without)
        for port in (ports["PLAIN"], ports["TLS"]):
            self.await_port(child, port)
            proxy.expect(0, 1)  # some log connections that say nothing
        self.await_answer(proxy)
        return proxy

    def await_answer(self, proxy):
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", proxy.ports["PLAIN"]), 2) as probe:
                probe.sendall(b"GET /warm HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                good = b" 200 " in probe.recv(64)
                proxy.expect(1 if good else 0, 1)
                if good:
                    return
            time.sleep(0.1)
        raise Wrong(f"{proxy.name}: does not answer 200: {self.errors(proxy.child)}")

    def stop(self, child):
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

"""How each proxy is found, configured and started. The configurations themselves are in `benches/peers`."""

import dataclasses
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Callable

from . import proc


def lines(make, indent):
    return lambda items: "\n".join(" " * indent + make(number, item) for number, item in enumerate(items))


def joined(make, by=", "):
    return lambda items: by.join(make(item) for item in items)


def socket_address(address):
    host, port = address.split(":")
    return f"{{ endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }} }}"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A proxy."""

    # Its template in `benches/peers`, and others that the first one names.
    templates: list[str]
    # The name of its program, on PATH or beside this Python's.
    program: str
    # Arguments that run it in the foreground, given its configuration's path and the number of workers.
    arguments: Callable[[str, int], list[str]]
    # The `host:port` of endpoints as its configuration writes them; none for the floor, which has one.
    endpoints: Callable[[list[str]], str] = lambda _: ""
    # Further routes to the same origin, likewise: path prefixes with a slash at the end.
    routes: Callable[[list[str]], str] = lambda _: ""
    # Arguments that make it tell its version.
    asked: tuple[str, ...] = ("-v",)
    # What only a line of its access log has; none where there is no log.
    marker: str | None = '"request_id"'
    # Lines that a tunnel leaves there.
    tunnel_lines: int = 1
    # Whether the log is its standard output.
    logs_to_stdout: bool = False
    http3: bool = False
    # What is set for as many workers.
    environment: Callable[[int], dict[str, str]] = lambda _: {}


def map_of_routes(prefixes):
    """HAProxy finds a prefix by a map, whose file stands beside the configuration."""
    return "    use_backend %[path,map_beg(@DIR@/@NAME@.map,origin)]" if prefixes else ""


NGINX = Peer(
    ["nginx.conf"], "nginx", lambda conf, _: ["-c", conf],
    endpoints=lines(lambda _, address: f"server {address};", 8),
    routes=lines(lambda _, prefix: f"location {prefix} {{ proxy_pass http://origin; }}", 8))
HAPROXY = Peer(
    ["haproxy.cfg"], "haproxy", lambda conf, _: ["-db", "-f", conf],
    endpoints=lines(lambda number, address: f"server s{number} {address} check inter 5s", 4),
    routes=map_of_routes, logs_to_stdout=True)
GO = dict(environment=lambda workers: {"GOMAXPROCS": str(workers)}, http3=True)

PEERS = {
    "sluicegate": Peer(
        ["sluicegate.toml"], "sluicegate", lambda conf, _: ["run", "--config", conf],
        endpoints=joined('"{}"'.format),
        routes=lines(lambda number, prefix: f'[[routes]]\npath = "{prefix.rstrip("/")}"\npool = "origin"', 0),
        asked=("version",), tunnel_lines=2, http3=True),
    "nginx": NGINX,
    "nginx-http3": dataclasses.replace(NGINX, http3=True),
    "haproxy": HAPROXY,
    "haproxy-quic": dataclasses.replace(HAPROXY, http3=True),
    "envoy": Peer(
        ["envoy.yaml"], "envoy",
        lambda conf, workers: ["-c", conf, "--concurrency", str(workers), "--log-level", "error", "--use-dynamic-base-id",
                               "--file-flush-interval-msec", "1000"],
        endpoints=joined(socket_address),
        routes=lines(lambda _, prefix: f"- {{ match: {{ prefix: {prefix} }}, route: {{ cluster: origin, timeout: 300s }} }}", 14),
        asked=("--version",), http3=True),
    "traefik": Peer(
        ["traefik.yaml", "traefik.routes.yaml"], "traefik", lambda conf, _: [f"--configFile={conf}"],
        endpoints=joined(lambda address: f'{{ url: "http://{address}" }}'),
        routes=lines(lambda number, prefix: f"r{number}: {{ rule: \"PathPrefix(`{prefix}`)\", entryPoints: [plain, tls], service: origin, middlewares: [limit] }}", 4),
        asked=("version",), marker='"DownstreamStatus"', **GO),
    "caddy": Peer(
        ["Caddyfile"], "caddy", lambda conf, _: ["run", "--adapter", "caddyfile", "--config", conf],
        endpoints=joined(str, " "),
        routes=lines(lambda _, prefix: f"handle {prefix}* {{\n\t\treverse_proxy {{\n\t\t\tto @ENDPOINTS@\n\t\t\timport upstream\n\t\t}}\n\t}}", 0),
        asked=("version",), marker='"bytes_read"', **GO),
    "pingora": Peer(
        ["pingora.conf"], "pingora-balancer", lambda conf, _: [conf],
        endpoints=joined(str, " "), routes=lambda prefixes: " ".join(prefixes), asked=("-V",)),
    "floor": Peer(["floor.cfg"], "haproxy", lambda conf, _: ["-db", "-f", conf], marker=None),
}
TITLES = {"floor": "floor (HAProxy, mode tcp)", "nginx-http3": "nginx with HTTP/3", "haproxy-quic": "HAProxy with QUIC", "pingora": "a balancer of Pingora"}


def find(name, named):
    """The program of a peer, or none: named by the caller, beside this Python (where pip puts them), or on PATH."""
    if name in named:
        return named[name]
    if name in ("sluicegate", "nginx-http3", "haproxy-quic", "pingora"):
        return None  # built aside
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"])
    return shutil.which(PEERS[name].program, path=path)


def version(name, program):
    found = re.search(r"\d+\.\d+\.\d+[^\s/]*", proc.output(program, *PEERS[name].asked))
    return found[0] if found else "?"

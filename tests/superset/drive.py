"""Drives Superset through a proxy over HTTP/1.1, HTTP/2 and HTTP/3, and sums up.

Called by `run`, with the environment of `stack.sh`.  Exit status 1 if a check failed.
"""
from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path

import aftermath
import traffic
from checks import NAMES, NEEDED, Checks, Skip
from client import PROTOCOLS, Client
from seed import seed

LOSSES = {"replica_killed": signal.SIGKILL, "replica_terminated": signal.SIGTERM}


class Report:
    """One line a check as it ends; two tables at the end."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.results: dict[str, dict[str, str]] = {}
        self.counts = {"ok": 0, "FAIL": 0, "skip": 0}

    def check(self, name: str, over: str, action) -> None:
        start = time.monotonic()
        try:
            mark, note = "ok", action()
        except Skip as e:
            mark, note = "skip", str(e)
        except Exception as e:  # noqa: BLE001 - a failed check is reported, the others still run
            mark, note = "FAIL", f"{type(e).__name__}: {e}"
        took = time.monotonic() - start
        print(f"{mark:4}  {over:5}  {name:18}  {took:6.2f} s  {note}", flush=True)
        self.counts[mark] += 1
        cell = mark if mark == "skip" else f"{mark}, {took:.2f} s" if took < 10 else f"{mark}, {took:.0f} s"
        self.results.setdefault(name, {})[over] = cell

    def summary(self, base: str, setup_seconds: int, foreign: bool) -> None:
        drive = time.monotonic() - self.began
        versions = [f"Superset {version('apache-superset')}", f"Python {platform.python_version()}",
                    f"Gunicorn {version('gunicorn')}", f"Celery {version('celery')}",
                    *(Path(os.environ["STACK_DIR"]) / "versions").read_text().split("\n")]
        print(f"\n{'another proxy' if foreign else 'Sluicegate'} at {base}, "
              f"{len(os.environ['STACK_WEB_PORTS'].split())} replicas of 1 worker x 20 threads, "
              f"{os.cpu_count()} cores\n" + ", ".join(filter(None, versions)) + "\n")
        print(f"| check | {' | '.join(PROTOCOLS.values())} |\n|{' --- |' * (1 + len(PROTOCOLS))}")
        for name, by in self.results.items():
            cells = [by["all"], *["together"] * (len(PROTOCOLS) - 1)] if "all" in by else [by.get(p, "") for p in PROTOCOLS]
            print(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
        print(f"\nset-up {setup_seconds} s, checks {drive:.0f} s, {setup_seconds + drive:.0f} s in all")
        print(f"{self.counts['ok']} passed, {self.counts['FAIL']} failed, {self.counts['skip']} skipped")


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("base", help="the public URL")
    ap.add_argument("--ca", help="the certificate to trust; without it, any is")
    ap.add_argument("--foreign", action="store_true", help="not Sluicegate: what it does not offer is skipped")
    ap.add_argument("--no-websocket", action="store_true", help="there is no superset-websocket")
    ap.add_argument("--only", help="comma-separated names")
    ap.add_argument("--protocols", default=",".join(PROTOCOLS), help="comma-separated")
    ap.add_argument("--setup-seconds", type=int, default=0)
    args = ap.parse_args()

    known = [*NAMES, *LOSSES, *aftermath.CHECKS]
    wanted = set(args.only.split(",")) if args.only else set(known)
    if unknown := wanted - set(known):
        ap.error(f"no such check: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")

    protocols = args.protocols.split(",")
    if unknown := set(protocols) - PROTOCOLS.keys():
        ap.error(f"no such protocol: {', '.join(sorted(unknown))}; there are: {', '.join(PROTOCOLS)}")

    user, password = "admin", os.environ["STACK_ADMIN_PASSWORD"]
    report = Report()

    def login(protocol: str) -> Client:
        client = Client(args.base, protocol, args.ca)
        client.login_form(user, password)
        client.fetch_csrf()
        return client

    contents = None

    def prepare() -> str:
        nonlocal contents
        api = Client(args.base, "h1", args.ca)
        api.login_api(user, password)
        api.fetch_csrf()
        contents = seed(api, os.environ["STACK_EXAMPLES_URI"])
        return f"dashboard {contents.dashboard} with {len(contents.charts)} charts"

    report.check("contents", "h1", prepare)
    if contents is None:
        return 1

    for protocol in protocols:
        checks = Checks(args.base, protocol, args.ca, user, password, not args.no_websocket, args.foreign)
        checks.seed = contents
        for name in NAMES:
            if name in wanted or (name in NEEDED and wanted & set(NAMES)):
                report.check(name, protocol, getattr(checks, name))

    for name, how in LOSSES.items():
        if name in wanted:
            report.check(name, "all", lambda: asyncio.run(
                traffic.lose_replica({p: login(p) for p in protocols}, args.ca, contents, how)))

    for name, check in aftermath.CHECKS.items():
        if name in wanted and not args.foreign:
            report.check(name, "all", lambda: check(args.base, args.ca))

    report.summary(args.base, args.setup_seconds, args.foreign)
    return 1 if report.counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())

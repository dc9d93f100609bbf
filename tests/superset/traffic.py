"""Many requests at once: their spread over the replicas, and the loss of a replica.

Asynchronous, on one thread, so that what fails is the proxy and not the client.
"""
from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx

from client import PROTOCOLS, REPLICA_HEADER, WITNESS, Client, transport_options
from seed import Seed

CONCURRENT = 4


def _session(of: Client, ca: str | None) -> httpx.AsyncClient:
    """The same user's session: its cookies on new connections."""
    return httpx.AsyncClient(base_url=of.base, cookies=of.http.cookies,
                             event_hooks={"response": [WITNESS.see_async]}, **transport_options(of.protocol, ca))


async def spread(web: Client, ca: str | None, seed: Seed, chart_query: dict, total: int) -> str:
    """`total` requests of one session, reading and writing; what one replica stores, another must find."""
    shares: Counter[str] = Counter()
    keys: list[str] = []
    form = {"datasource_id": seed.dataset, "datasource_type": "table", "form_data": "{}"}

    async def one(http: httpx.AsyncClient, n: int) -> str | None:
        """What went wrong, if anything did."""
        method, path, body, expect = [
            ("GET", "/api/v1/me/", None, (200,)),
            ("POST", "/api/v1/explore/form_data", form, (201,)),
            ("GET", f"/api/v1/dashboard/{seed.dashboard}", None, (200,)),
            ("POST", "/api/v1/chart/data", chart_query, (200, 202)),
            ("GET", f"/api/v1/explore/form_data/{keys[-1]}" if keys else "/api/v1/me/", None, (200,)),
        ][n % 5]
        try:
            r = await http.request(method, path, json=body, headers=web.headers(method))
        except httpx.HTTPError as e:
            return f"{method} {path}: {type(e).__name__}"
        shares[r.headers.get(REPLICA_HEADER, "no replica")] += 1
        if r.status_code == 201:
            keys.append(r.json()["key"])
        return None if r.status_code in expect else f"{method} {path}: {r.status_code}"

    numbers = iter(range(total))
    async with _session(web, ca) as http:

        async def client() -> list[str]:
            return [problem for n in numbers if (problem := await one(http, n))]

        problems = sum(await asyncio.gather(*(client() for _ in range(CONCURRENT))), [])
    assert not problems, f"{len(problems)} of {total} failed: {problems[:5]}"

    replicas = os.environ["STACK_WEB_PORTS"].split()
    fair = total / len(replicas)
    for port in replicas:
        assert shares[f"replica-{port}"] > fair / 2, f"shares {dict(shares)}"
    return f"{total} requests, 0 failed, shares {' '.join(str(shares[f'replica-{p}']) for p in replicas)}"


@dataclass
class Tally:
    """What one protocol's requests met with."""

    count: int = 0
    slowest: float = 0.0
    problems: list[str] = field(default_factory=list)


class Traffic:
    """Safe requests without end, over all protocols, until told to stop."""

    def __init__(self, users: dict[str, Client], ca: str | None, seed: Seed) -> None:
        self.users, self.ca = users, ca
        self.paths = ["/api/v1/me/", f"/api/v1/dashboard/{seed.dashboard}", "/superset/welcome/",
                      f"/api/v1/chart/{seed.charts[0]}", f"/superset/dashboard/{seed.dashboard}/", "/api/v1/chart/"]
        self.tallies = {protocol: Tally() for protocol in users}
        self.served: Counter[str] = Counter()
        self.stopped = False

    async def run(self) -> None:
        await asyncio.gather(*(self._client(protocol) for protocol in self.users for _ in range(CONCURRENT // 2)))

    async def _client(self, protocol: str) -> None:
        tally = self.tallies[protocol]
        async with _session(self.users[protocol], self.ca) as http:
            for path in cycle(self.paths):
                if self.stopped:
                    return
                start = time.perf_counter()
                try:
                    r = await http.get(path)
                    if r.status_code != 200:
                        tally.problems.append(f"GET {path}: {r.status_code}")
                    self.served[r.headers.get(REPLICA_HEADER, "no replica")] += 1
                except httpx.HTTPError as e:
                    tally.problems.append(f"GET {path}: {type(e).__name__} {e}")
                tally.count += 1
                tally.slowest = max(tally.slowest, time.perf_counter() - start)
                await asyncio.sleep(0.02)


async def _until(condition, seconds: float, what: str) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"{what}: not within {seconds:.0f} s"
        await asyncio.sleep(0.1)
    return time.monotonic() - start


async def lose_replica(users: dict[str, Client], ca: str | None, seed: Seed, how: signal.Signals) -> str:
    """A replica ends in the middle of traffic, and comes back, and no safe request fails."""
    port = os.environ["STACK_WEB_PORTS"].split()[-1]
    name = f"replica-{port}"
    pid = int((Path(os.environ["STACK_DIR"]) / "pid" / f"web-{port}").read_text().split()[0])
    load = Traffic(users, ca, seed)
    running = asyncio.create_task(load.run())

    def gone() -> bool:
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return True
        return False

    try:
        await _until(lambda: load.served[name] >= 5, 30, f"{name} serves")
        if how is signal.SIGKILL:
            os.killpg(pid, how)  # master and worker: as when a machine goes
        else:
            os.kill(pid, how)
        ended = await _until(gone, 45, f"{name} ends")
        await asyncio.sleep(3)
        before = load.served[name]
        start = await asyncio.create_subprocess_exec(
            "bash", str(Path(__file__).with_name("stack.sh")), "start_replica", port)
        assert await start.wait() == 0, f"{name} could not be started again"
        # Half a minute, but minutes on a machine that is busy with other things too.
        back = await _until(lambda: load.served[name] > before, 300, f"{name} serves again")
        await asyncio.sleep(2)
    finally:
        load.stopped = True
        await running

    failed = {PROTOCOLS[p]: t.problems for p, t in load.tallies.items() if t.problems}
    assert not failed, f"failed: { {p: (len(x), x[:4]) for p, x in failed.items()} }"
    counts = ", ".join(f"{t.count} {p}" for p, t in load.tallies.items())
    slowest = max(t.slowest for t in load.tallies.values())
    return (f"{counts} GETs, 0 failed, slowest {slowest:.1f} s; gone after {ended:.1f} s, "
            f"serving {back:.0f} s after its restart")

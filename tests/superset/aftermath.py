"""What Sluicegate says when all has been asked: a record for each request, no secret in any, nothing held on to.

Each check returns a short remark and raises when something is wrong, as in `checks.py`.
"""
from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from pathlib import Path

import httpx

from client import WITNESS, Client

LOGS = Path(os.environ["STACK_DIR"]) / "log"
SAMPLE = re.compile(r'[a-z_:]+(?:\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\})? (\S+)')


def _admin(path: str) -> str:
    return httpx.get(f"http://127.0.0.1:{os.environ['STACK_ADMIN_PORT']}{path}", trust_env=False).text


def _records() -> list[dict]:
    # A last line that is still being written has no end yet.
    lines = (LOGS / "sluicegate-access.log").read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def records(base: str, ca: str | None) -> str:
    """Each response's request id has its record, and each record an end that this run explains."""
    client = Client(base, "h2", ca)
    client.get("/health")
    client.http.close()
    assert None not in WITNESS.ids, "a response without X-Request-Id"
    assert len(set(WITNESS.ids)) == len(WITNESS.ids), "a request id was given twice"
    until = time.monotonic() + 10
    while True:
        found = _records()
        kinds = {kind: Counter(r["request_id"] for r in found if r["kind"] == kind)
                 for kind in ("exchange", "tunnel_start", "tunnel_end")}
        missing = set(WITNESS.ids) - kinds["exchange"].keys()
        if not missing and kinds["tunnel_start"] == kinds["tunnel_end"]:
            break
        assert time.monotonic() < until, f"{len(missing)} requests without a record; tunnels {kinds['tunnel_start']}"
        time.sleep(0.2)
    assert all(n == 1 for counted in kinds.values() for n in counted.values()), "a record was written twice"
    for r in found:
        # The rest of a story that did not go well; here only a WebSocket without its cookie may have one.
        explained = r["end"] == "--" and "fault" not in r or (r["end"], r.get("fault")) == ("UT", "tunnel_refused")
        assert explained, f"{r['method']} {r['path']}: {r['end']} {r.get('fault')}"
        assert r["status"] < 500, f"{r['method']} {r['path']}: {r['status']}"
        assert all(v >= 0 for v in r.values() if isinstance(v, int | float)), r
    retried = sum(1 for r in found if "attempts" in r and r["end"] == "--")
    return f"{kinds['exchange'].total()} exchanges, {kinds['tunnel_end'].total()} tunnels, {retried} saved by a retry"


def nothing_blocked(base: str, ca: str | None) -> str:
    """No request of the run was refused by the shield or a ban."""
    found = _records()
    verdicts = [(v["rule"], v["mode"], r["method"], r["path"], r.get("user_agent"))
                for r in found for v in r.get("verdicts", [])]
    blocked = [v for v in verdicts if v[1] == "enforced"]
    assert not blocked, f"{len(blocked)} enforced verdicts, first {blocked[0]}"
    refused = [r for r in found if r.get("fault") in ("denied", "dropped", "banned", "content_type", "unknown_host")]
    assert not refused, f"{len(refused)} refused, first {refused[0]}"
    return f"0 of {len(found)} blocked, {len(verdicts)} observed verdicts {Counter(v[0] for v in verdicts)}"


def secrets(base: str, ca: str | None) -> str:
    """No cookie, token or password in what is written or shown."""
    planted = [f"planted-secret-{n}-{os.urandom(8).hex()}" for n in range(7)]
    client = Client(base, "h1", ca)
    query = f"token={planted[0]}&next=%2Flogin%3Faccess_token%3D{planted[1]}&Password={planted[2]}"
    referer = f"{base.replace('://', f'://admin:{planted[3]}@')}/?guest_token={planted[4]}#{planted[5]}"
    client.get(f"/health?{query}", headers={
        "Referer": referer, "X-GuestToken": planted[6], "Authorization": f"Bearer {planted[6]}"})
    client.http.close()
    mark = next(reversed(WITNESS.ids))
    until = time.monotonic() + 10
    while not any(r["request_id"] == mark for r in _records()):
        assert time.monotonic() < until, "no record"
        time.sleep(0.2)
    kept = WITNESS.secrets | set(planted)
    kept |= {v for k, v in os.environ.items() if k in ("STACK_ADMIN_PASSWORD", "STACK_SECRET_KEY", "STACK_JWT_SECRET")}
    places = {name: (LOGS / name).read_text() for name in ("sluicegate-access.log", "sluicegate.log")}
    places |= {path: _admin(path) for path in ("/status", "/metrics")}
    for place, text in places.items():
        told = [secret[:15] for secret in kept if secret in text]
        assert not told, f"{place} tells {len(told)}, they begin with {told[:5]}"
    return f"{len(kept)} looked for in {sum(map(len, places.values())) / 1e6:.1f} MB of logs and metrics"


def nothing_held(*_) -> str:
    """Slots, tunnels, buffers and lines are empty again; the metrics add up."""
    until = time.monotonic() + 15
    while True:
        status = json.loads(_admin("/status"))
        endpoints = [e for pool in status["pools"] for e in pool["endpoints"]]
        held = {k: sum(e[k] for e in endpoints) for k in ("in_flight", "tunnels")}
        held |= {k: status[k] for k in ("temp_bytes", "buffered_bytes")}
        held["queue_length"] = sum(pool["queue_length"] for pool in status["pools"])
        down = [e["name"] for e in endpoints if e["standing"] != "up"]
        if not any(held.values()) and not down:
            break
        assert time.monotonic() < until, f"{held}, not up: {down}"
        time.sleep(0.2)
    sums: Counter[str] = Counter()
    for line in _admin("/metrics").splitlines():
        if line and not line.startswith("#"):
            sample = SAMPLE.fullmatch(line)
            assert sample, f"not a sample: {line}"
            # Of a budget more than all can be spent: on a slow machine, that of latency.
            assert float(sample[1]) >= 0 or line.startswith("sluicegate_slo_budget_left_ratio"), line
            sums[re.split(r"[ {]", line, maxsplit=1)[0]] += float(sample[1])
    assert sums["sluicegate_panics_total"] == 0, "a panic"
    ends = sums["sluicegate_exchange_ends_total"]
    assert sums["sluicegate_exchanges_total"] == ends > 0, f"{ends} ends of {sums['sluicegate_exchanges_total']}"
    return f"all endpoints up and idle, {len(sums)} metrics, {ends:.0f} exchanges"


CHECKS = {"nothing_blocked": nothing_blocked, "records": records, "secrets": secrets, "nothing_held": nothing_held}

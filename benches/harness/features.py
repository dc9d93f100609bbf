"""What each of our features costs: instructions of an exchange with everything on, and with one of them off."""

import shutil

from . import callgrind, loads
from .stand import FEATURES, Wrong

OFF = '[shield]\nprofile = "off"\n'
# Title, what is left out, what is written more, and whether the client speaks TLS.
VARIANTS = [
    ("everything on", (), "", False),
    ("without the access log", ("log",), "", False),
    ("without limits on requests", ("limits",), "", False),
    ("without the shield", (), OFF, False),
    ("without health checks and ejection", ("health",), "", False),
    ("without metrics and flight recorder", ("metrics",), "", False),
    ("without all of these", tuple(each for each in FEATURES if each != "tunnels"), OFF, False),
    ("everything on, under TLS", (), "", True),
]
REQUESTS = 400


def measure(bench, tell):
    if not shutil.which("valgrind"):
        tell("features   left out: no valgrind")
        return None
    found = {}
    for title, without, more, tls in VARIANTS:
        def ask(proxy, requests, tls=tls):
            loads.h2load(proxy, proxy.url(tls), requests, 1, 1, 1024, h1=True)
        try:
            (instructions, _), _ = callgrind.exchanges(bench.stand, "sluicegate", ask, REQUESTS, bench.stand.dir / "callgrind", without=without, more=more)
        except Wrong as why:
            tell(f"features   {title}: FAILED: {why}")
            continue
        found[title] = instructions
        tell(f"features   {title}: {instructions:,.0f} instructions")
    all_on = found.get("everything on")
    lines = ["| | instructions of an exchange | against everything on |", "| --- | --- | --- |"]
    for title, count in found.items():
        lines.append(f"| {title} | {count:,.0f} | {count - all_on:+,.0f} ({count / all_on - 1:+.1%}) |" if all_on else f"| {title} | {count:,.0f} | |")
    note = (f"Plain HTTP/1.1 on one keep-alive connection, {REQUESTS} exchanges, user space only, all threads, under callgrind: what does not depend on "
            "the machine's load. Forwarded fields, request ids and trace context cannot be switched off. Callgrind shows no vector instructions beyond "
            "AVX2 to the program, so that AES is counted in its older form.")
    return {"title": "What each feature costs", "note": note, "table": lines, "instructions": found, "failures": {}}

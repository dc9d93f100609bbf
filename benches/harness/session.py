"""A session of Superset, as recorded at the proxy: a cold login, a dashboard, a reload and SQL Lab in a browser.

Of its 167 requests 89 were for assets (3.3 MB, median 4.4 kB, 16 of them 304), 55 for the API (median 610 bytes), 9 for
pages, 9 told of what the user did; the others were WebSockets, which have a scenario of their own. A CSV is added.
"""

import dataclasses

# Statuses are 200 but for what the browser has already.
RECENT = "Sun, 01 Feb 2037 00:00:00 GMT"


@dataclasses.dataclass(frozen=True)
class Kind:
    """Requests of one kind: how many of them there are, what they ask, and the sizes of both bodies."""

    count: int
    path: str
    answer: int
    body: int = 0
    cached: bool = False
    # Where the origin has the answer, if not under the path.
    file: str = ""


KINDS = [
    Kind(9, "/session/welcome", 30_000),
    Kind(40, "/session/chunk-small.js", 1_900),
    Kind(20, "/session/chunk.js", 9_600),
    Kind(10, "/session/chunk-large.js", 120_000),
    Kind(3, "/session/vendors.js", 505_003),
    Kind(16, "/session/style.css", 0, cached=True),
    Kind(49, "/session/me", 610),
    Kind(6, "/session/dashboard", 2_758),
    # Superset's own path, which proxies may know as one that only reads.
    Kind(4, "/api/v1/chart/data", 15_300, body=2_300, file="/session/chart"),
    Kind(9, "/session/log", 32, body=900),
    Kind(1, "/session/export.csv", 3 << 20),
]
FILES = {"files/100k": 100 << 10, "files/10m": 10 << 20}


def order():
    """The kinds, each as often as it comes, well mixed and always alike."""
    spread = sorted((((number + 0.5) / kind.count, index) for index, kind in enumerate(KINDS) for number in range(kind.count)))
    return [KINDS[index] for _, index in spread]


def write_files(root):
    """What the origin serves."""
    # What a POST is for must be there, too.
    sizes = {**FILES, "upload": 1 << 10, "streamed/upload": 1 << 10}
    for kind in KINDS:
        sizes[(kind.file or kind.path).lstrip("/")] = max(kind.answer, 1)
    for path, size in sizes.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"{\"n\": 4711},\n" * (size // 13) + b"x" * (size % 13))


def script(browser, host):
    """For wrk: the session's requests, one after the other."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in browser.items())
    lines = ["local asked = {}"]
    for number, kind in enumerate(order(), 1):
        more = f"If-Modified-Since: {RECENT}\r\n" if kind.cached else ""
        more += f"Content-Type: application/json\r\nContent-Length: {kind.body}\r\n" if kind.body else ""
        head = f"{'POST' if kind.body else 'GET'} {kind.path} HTTP/1.1\r\nHost: {host}\r\n{fields}{more}\r\n"
        body = "{" + " " * (kind.body - 2) + "}" if kind.body else ""
        lines.append(f"asked[{number}] = {quoted(head + body)}")
    lines.append("local at = 0\nfunction request() at = at % #asked + 1 return asked[at] end")
    return "\n".join(lines) + "\n"


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n") + '"'

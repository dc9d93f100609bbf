"""What a browser and a script do with Superset, each as one check of the proxy.

A check is a method of `Checks`: it returns a short remark, raises when something is
wrong, and raises `Skip` when the surroundings lack what it needs.  They run in the
order of `NAMES`, once for each protocol; the login comes early since most need it.
"""
from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

from wsproto.frame_protocol import Opcode

import sockets
import traffic
from client import Client, Page
from seed import SALES, Seed

NAMES = [
    "health", "version_blocked", "anonymous_redirect", "login_form", "welcome", "assets", "login_api",
    "csrf", "forwarded", "dashboard", "chart_data", "async_chart_poll", "async_chart", "websocket_refused",
    "sqllab", "sqllab_async", "csv_export", "csv_stream", "chart_stream", "csv_upload", "session_spread",
    "websocket_idle", "logout",
]
NEEDED = {"login_form", "welcome", "login_api"}
UPLOAD_ROWS, UPLOAD_CELL = 2_000, 26_000  # 52 MB: few rows, since pandas, not the proxy, sets the pace
SPREAD = 200


class Skip(Exception):
    """Nothing to test here, and why."""


class Checks:
    """One user's walk through Superset over one protocol."""

    def __init__(self, base: str, protocol: str, ca: str | None, user: str, password: str,
                 websocket: bool, foreign: bool) -> None:
        self.base, self.protocol, self.ca = base, protocol, ca
        self.user, self.password = user, password
        self.websocket, self.foreign = websocket, foreign
        self.web = Client(base, protocol, ca)
        self.api = Client(base, protocol, ca)
        self.seed: Seed | None = None
        self.idle: Future | None = None

    # --- pages and sessions -------------------------------------------------------

    def health(self) -> str:
        r = self.web.get("/health")
        assert r.text == "OK", r.text
        return r.http_version

    def version_blocked(self) -> str:
        """Superset shows its git revision there to everybody."""
        r = self.web.get("/version", expect=(403, 404))
        return f"status {r.status_code}"

    def anonymous_redirect(self) -> str:
        r = self.web.get("/superset/welcome/", expect=(302,))
        return f"302 to {self._local(r)}"

    def login_form(self) -> str:
        r = self.web.login_form(self.user, self.password)
        assert "/login" not in self._local(r), "login refused"
        cookies = {c.split("=", 1)[0]: c.lower() for c in r.headers.get_list("Set-Cookie")}
        # Two cookies in two fields: a proxy must never fold these (RFC 6265 §3).
        assert {"session", "async-token"} <= cookies.keys(), sorted(cookies)
        for attribute in ("secure", "httponly", "samesite=lax", "path=/"):
            assert attribute in cookies["session"], f"session cookie without {attribute}"
        return f"302 to {self._local(r)}, {len(cookies)} cookies, Secure"

    def welcome(self) -> str:
        r = self.web.get("/superset/welcome/")
        page = Page(r.text)
        user = page.bootstrap.get("user", {}).get("username")
        assert user == self.user, f"not logged in: {user!r}"
        for header in ("Strict-Transport-Security", "X-Content-Type-Options", "Content-Security-Policy"):
            values = r.headers.get_list(header)
            assert len(values) == 1, f"{header}: {len(values)} times"
        self.web.fetch_csrf()
        return f"{len(r.content)} bytes, {len(page.assets)} assets"

    def assets(self) -> str:
        page = Page(self.web.get("/superset/welcome/").text)
        total = 0
        for path in page.assets:
            total += len(self.web.get(path).content)
            # The identity form: Superset does not know its own tags of small encoded files again.
            plain = {"Accept-Encoding": "identity"}
            whole = self.web.get(path, headers=plain)
            assert len(whole.content) == int(whole.headers["Content-Length"]), path
            again = self.web.get(path, headers=plain | {"If-None-Match": whole.headers["ETag"]}, expect=(304,))
            assert not again.content, "a 304 with a body"
        part = self.web.get(path, headers=plain | {"Range": "bytes=1-10"}, expect=(206,))
        assert part.content == whole.content[1:11], "a wrong part"
        return f"{len(page.assets)} files, {total / 1e6:.1f} MB, 304 and 206 too"

    def login_api(self) -> str:
        token = self.api.login_api(self.user, self.password)
        self.api.fetch_csrf()
        me = self.api.get("/api/v1/me/", bearer=True).json()["result"]["username"]
        assert me == self.user, me
        return f"JWT of {len(token)} bytes"

    def csrf(self) -> str:
        """Refused without a token, and with a foreign `Referer`, which Superset minds only over HTTPS."""
        form_data = {"datasource_id": self.seed.dataset, "datasource_type": "table", "form_data": "{}"}
        path = "/api/v1/explore/form_data"
        self.web.post(path, json=form_data, headers={"X-CSRFToken": ""}, expect=(400,))
        self.web.post(path, json=form_data, headers={"Referer": "https://evil.example/"}, expect=(400,))
        self.web.post(path, json=form_data, expect=(201,))
        return "400 without token, 400 with a foreign Referer, 201"

    def forwarded(self) -> str:
        """An absolute link that Superset makes must name the public address, whatever a client claims."""
        claims = {
            "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "1",
            "X-Forwarded-Prefix": "/evil", "X-Forwarded-For": "192.0.2.1", "Forwarded": "host=evil.example",
        }
        for headers in ({}, claims):
            r = self.web.post(f"/api/v1/dashboard/{self.seed.dashboard}/permalink", headers=headers, expect=(201,),
                              json={"dataMask": {}, "activeTabs": [], "anchor": "", "urlParams": []})
            link = r.json()["url"]
            assert link.startswith(self.base + "/superset/"), link
        where = self._local(self.web.get(link, expect=(302,)))
        assert where.startswith("/superset/dashboard/"), where
        return f"links to {self.base}, with forged headers too"

    def logout(self) -> str:
        where = self._local(self.web.get("/logout/", expect=(302,)))
        after = self.web.get("/api/v1/me/", expect=(401, 403))
        return f"302 to {where}, then {after.status_code}"

    # --- dashboards and charts ----------------------------------------------------

    def dashboard(self) -> str:
        did = self.seed.dashboard
        page = self.web.get(f"/superset/dashboard/{did}/")
        title = self.web.get(f"/api/v1/dashboard/{did}").json()["result"]["dashboard_title"]
        assert title == "Test dashboard", title
        charts = self.web.get(f"/api/v1/dashboard/{did}/charts").json()["result"]
        assert len(charts) == len(self.seed.charts), len(charts)
        self.web.get(f"/api/v1/dashboard/{did}/datasets")
        return f"page of {len(page.content)} bytes, {len(charts)} charts"

    def chart_data(self) -> str:
        """All charts of the dashboard at once, as a browser asks for them."""
        queries = [self._chart_query(i) for i in range(len(self.seed.charts))]
        with ThreadPoolExecutor(len(queries)) as pool:
            rows = list(pool.map(self._chart_rows, queries))
        assert rows[0] == 1 and rows[2] == 6 and rows[3] == 1000, rows
        return f"{len(rows)} charts, {sum(rows)} rows"

    def async_chart_poll(self) -> str:
        """202, then the event by polling, then the result."""
        last = self.web.get("/api/v1/async_event/").json()["result"]
        seen = {"last_id": last[-1]["id"]} if last else {}
        job, polls, start = self._start_job(), 0, time.perf_counter()
        while time.perf_counter() - start < 60:
            polls += 1
            for event in self.web.get("/api/v1/async_event/", params=seen).json()["result"]:
                if event["job_id"] == job and event["status"] in ("done", "error"):
                    return f"202, {polls} polls, {self._job_rows(event)} rows"
            time.sleep(0.2)
        raise AssertionError("no event within 60 s")

    def async_chart(self) -> str:
        """202, then the event on the WebSocket, then the result."""
        with self._socket() as ws:
            # Idle from here on, beside the other checks; `websocket_idle` collects it.
            self.idle = ThreadPoolExecutor(1).submit(self._idle_socket)
            job, start = self._start_job(), time.perf_counter()
            while True:
                event = json.loads(ws.expect(Opcode.TEXT, 60))
                if event["job_id"] == job and event["status"] in ("done", "error"):
                    break
            waited = time.perf_counter() - start
        return f"202, event after {waited * 1000:.0f} ms, {self._job_rows(event)} rows"

    def websocket_refused(self) -> str:
        """Without its cookie: superset-websocket closes without an answer; the client must not hang."""
        try:
            self._socket(cookie=False)
        except sockets.Refused as e:
            assert self.foreign or str(e) in ("status 401", "status 502"), str(e)
            return str(e)
        raise AssertionError("a WebSocket without a token was accepted")

    def websocket_idle(self) -> str:
        """A silent WebSocket outlives the server's ping interval of 20 s."""
        if self.idle is None:
            self._socket().__exit__()  # says why there is none
            return self._idle_socket()
        return self.idle.result(60)

    # --- SQL Lab, exports, uploads ------------------------------------------------

    def sqllab(self) -> str:
        _, r = self._execute("select region, sum(amount) as revenue from sales group by 1 order by 1")
        rows = r.json()["data"]
        assert len(rows) == 4, rows
        return f"{len(rows)} rows"

    def sqllab_async(self) -> str:
        start = time.perf_counter()
        client_id, r = self._execute("select count(*) as n from sales", run_async=True)
        assert r.status_code == 202, f"{r.status_code}: not asynchronous"
        since, polls = int(time.time() * 1000) - 60_000, 0
        while time.perf_counter() - start < 60:
            polls += 1
            found = self.web.get("/api/v1/query/updated_since", params={"q": f"(last_updated_ms:{since})"})
            mine = [q for q in found.json()["result"] if q["id"] == client_id]
            if mine and mine[0]["state"] in ("success", "failed"):
                assert mine[0]["state"] == "success", mine[0].get("errorMessage")
                q = f"(key:'{mine[0]['resultsKey']}')"
                data = self.web.get("/api/v1/sqllab/results/", params={"q": q}).json()["data"]
                assert data == [{"n": SALES}], data
                return f"202, {polls} polls"
            time.sleep(0.5)
        raise AssertionError("the query did not end within 60 s")

    def csv_export(self) -> str:
        sql = self.web.get(f"/api/v1/sqllab/export/{self._large_query()}/")
        assert len(sql.text.splitlines()) == SALES + 1, len(sql.text.splitlines())
        chart = self.web.post("/api/v1/chart/data", json=self._chart_query(3, result_format="csv"))
        assert "text/csv" in chart.headers["Content-Type"], chart.headers["Content-Type"]
        assert len(chart.text.splitlines()) == 1001, len(chart.text.splitlines())
        return f"{len(sql.content) / 1e6:.1f} MB from SQL Lab, {len(chart.content)} bytes from a chart"

    def csv_stream(self) -> str:
        # A form field carries the token here: the browser submits a form.
        form = {"client_id": self._large_query(), "filename": "test.csv", "expected_rows": str(SALES),
                "csrf_token": self.web.csrf}
        return self._stream("/api/v1/sqllab/export_streaming/", data=form)

    def chart_stream(self) -> str:
        query = self._chart_query(3, result_format="csv")
        query["form_data"]["row_limit"] = query["queries"][0]["row_limit"] = SALES
        return self._stream("/api/v1/chart/data", json=query)

    def csv_upload(self) -> str:
        """52 MB into a table, and out of the table the same digest."""
        table = f"upload_{self.protocol}"
        dice = random.Random(self.protocol)
        cells = [dice.randbytes(UPLOAD_CELL // 2).hex() for _ in range(UPLOAD_ROWS)]
        data = "id,cell\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
        # A file, which httpx sends in pieces: over HTTP/2 it copies what is left of bytes for each frame.
        file = io.BytesIO(data.encode())
        r = self.web.post(
            f"/api/v1/database/{self.seed.database}/upload/",
            data={"type": "csv", "table_name": table, "already_exists": "replace", "schema": "public",
                  "delimiter": ","},
            files={"file": ("upload.csv", file, "text/csv")}, expect=(201,),
        )
        # Five seconds or so are Superset's own; a proxy with tiny HTTP/2 windows needs minutes.
        assert r.seconds < 60, f"{r.seconds:.0f} s"
        _, found = self._execute(f"select md5(string_agg(cell, '' order by id)) as digest from {table}")
        assert found.json()["data"][0]["digest"] == hashlib.md5("".join(cells).encode()).hexdigest(), "altered"
        return f"{len(data) / 1e6:.0f} MB in {r.seconds:.1f} s, digest equal"

    def session_spread(self) -> str:
        """One session, every replica: no request may fall out of it."""
        return asyncio.run(traffic.spread(self.web, self.ca, self.seed, self._chart_query(2), SPREAD))

    # --- parts of the above -------------------------------------------------------

    def _local(self, response) -> str:
        """A redirect's target, which must not lead away from the public address."""
        where, mine = urlsplit(response.headers["Location"]), urlsplit(self.base)
        assert where.netloc in ("", mine.netloc) and where.scheme in ("", mine.scheme), response.headers["Location"]
        return where.path

    def _chart_query(self, index: int, **overrides) -> dict:
        chart = self.web.get(f"/api/v1/chart/{self.seed.charts[index]}").json()["result"]
        return json.loads(chart["query_context"]) | overrides

    def _chart_rows(self, query: dict) -> int:
        """202 until a worker has put the result into the cache, then 200."""
        for _ in range(100):
            r = self.web.post("/api/v1/chart/data", json=query, expect=(200, 202))
            if r.status_code == 200:
                return r.json()["result"][0]["rowcount"]
            time.sleep(0.3)
        raise AssertionError("no result within 30 s")

    def _start_job(self) -> str:
        query = self._chart_query(2, force=True)
        return self.web.post("/api/v1/chart/data", json=query, expect=(202,)).json()["job_id"]

    def _job_rows(self, event: dict) -> int:
        assert event["status"] == "done", event
        return self.web.get(event["result_url"]).json()["result"][0]["rowcount"]

    def _socket(self, cookie: bool = True) -> sockets.Socket:
        if not self.websocket:
            raise Skip("no superset-websocket: SUPERSET_WS_DIR is not set")
        try:
            return sockets.Socket(self.base, "/ws", self.protocol, self.ca,
                                  self.web.cookie_header() if cookie else None)
        except sockets.Unsupported as e:
            if self.foreign:
                raise Skip(str(e)) from e
            raise

    def _idle_socket(self) -> str:
        with self._socket() as ws:
            start = time.monotonic()
            # The first ping may come at once, since all sockets are pinged together; the
            # second one comes after a whole interval of silence.
            while ws.pings_seen < 2:
                ws.receive(30)
            ws.ping(b"still there?")
            return f"open for {time.monotonic() - start:.0f} s, {ws.pings_seen} pings of the server, then ours"

    def _execute(self, sql: str, run_async: bool = False, limit: int = 1000):
        client_id = uuid.uuid4().hex[:10]
        r = self.web.post("/api/v1/sqllab/execute/", expect=(200, 202), json={
            "database_id": self.seed.async_database if run_async else self.seed.database,
            "schema": "public", "client_id": client_id, "sql": sql, "runAsync": run_async, "queryLimit": limit,
            "expand_data": True, "select_as_cta": False, "ctas_method": "TABLE", "tmp_table_name": "",
            "sql_editor_id": "1", "tab": "test",
        })
        return client_id, r

    def _large_query(self) -> str:
        return self._execute("select *, repeat('x', 100) as filler from sales order by id", limit=SALES)[0]

    def _stream(self, path: str, **kwargs) -> str:
        """No length is known, so it must arrive in pieces, complete, with its end marked."""
        headers = self.web.headers("POST")
        size = lines = pieces = 0
        with self.web.http.stream("POST", path, headers=headers, **kwargs) as r:
            assert r.status_code == 200, r.status_code
            assert "Content-Length" not in r.headers, "a Content-Length: it was collected"
            for piece in r.iter_bytes():
                size, lines, pieces = size + len(piece), lines + piece.count(b"\n"), pieces + 1
        assert lines == SALES + 1, f"{lines} lines"
        return f"{size / 1e6:.1f} MB in {pieces} pieces, no Content-Length"

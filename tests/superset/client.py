"""One user of Superset, over HTTP/1.1, HTTP/2 or HTTP/3: keeps cookies, checks statuses."""
from __future__ import annotations

import json
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

import http3

REPLICA_HEADER = "X-Superset-Replica"
PROTOCOLS = {"h1": "HTTP/1.1", "h2": "HTTP/2", "h3": "HTTP/3"}


def tls_context(ca: str | None) -> ssl.SSLContext:
    """Trusts the one certificate of `ca`, or, without it, anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca:
        context.load_verify_locations(ca)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass
class Witness:
    """What all clients together have seen: `aftermath.py` looks for it in the records."""

    ids: list[str | None] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)

    def see(self, response: httpx.Response) -> None:
        self.ids.append(response.headers.get("X-Request-Id"))
        for cookie in response.headers.get_list("Set-Cookie"):
            self.keep(cookie.split(";", 1)[0].partition("=")[2])
        for name in ("Authorization", "X-CSRFToken", "X-GuestToken"):
            self.keep(response.request.headers.get(name, "").split(" ")[-1])

    async def see_async(self, response: httpx.Response) -> None:
        self.see(response)

    def keep(self, secret: str) -> None:
        if len(secret) >= 16:  # shorter ones are none, or found by chance
            self.secrets.add(secret)


WITNESS = Witness()


def transport_options(protocol: str, ca: str | None) -> dict:
    """What httpx's clients, synchronous or not, need to speak exactly this protocol."""
    if protocol == "h3":
        return {"transport": http3.Transport(ca), "trust_env": False, "timeout": http3.PATIENCE}
    return {
        "verify": tls_context(ca),
        "http1": protocol == "h1",
        "http2": protocol == "h2",
        "trust_env": False,
        "timeout": 120.0,
    }


class Page(HTMLParser):
    """The parts of a Superset page that a browser acts on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.csrf: str | None = None
        self.assets: list[str] = []
        self.bootstrap: dict = {}
        self.feed(text)
        self.assets = list(dict.fromkeys(self.assets))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        a = dict(attrs)
        if tag == "input" and a.get("name") == "csrf_token":
            self.csrf = a.get("value")
        elif tag == "script" and a.get("src"):
            self.assets.append(a["src"])
        elif tag == "link" and a.get("href") and a.get("rel") in ("stylesheet", "preload", "icon"):
            self.assets.append(a["href"])
        elif a.get("data-bootstrap"):
            self.bootstrap = json.loads(a["data-bootstrap"])


class Client:
    """A session at one base URL.

    Superset accepts a writing request over HTTPS only with the session's CSRF token
    and a `Referer` on the host that it believes to have, so each POST tests the
    forwarded headers too.
    """

    def __init__(self, base: str, protocol: str, ca: str | None = None) -> None:
        self.base = base
        self.protocol = protocol
        self.http = httpx.Client(
            base_url=base, event_hooks={"response": [WITNESS.see]}, **transport_options(protocol, ca))
        self.token: str | None = None
        self.csrf: str | None = None
        self.replicas: Counter[str] = Counter()

    def headers(self, method: str, bearer: bool = False) -> dict[str, str]:
        headers = {}
        if bearer and self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if method not in ("GET", "HEAD") and self.csrf:
            headers |= {"X-CSRFToken": self.csrf, "Referer": self.base + "/"}
        return headers

    def request(self, method: str, path: str, expect=(200,), bearer=False, headers=None, **kwargs) -> httpx.Response:
        """Sends, and insists on one of the statuses in `expect` (any, if empty)."""
        headers = self.headers(method, bearer) | (headers or {})
        start = time.perf_counter()
        response = self.http.request(method, path, headers=headers, **kwargs)
        response.seconds = time.perf_counter() - start
        assert response.http_version == PROTOCOLS[self.protocol], response.http_version
        if replica := response.headers.get(REPLICA_HEADER):
            self.replicas[replica] += 1
        if expect and response.status_code not in expect:
            raise AssertionError(f"{method} {path}: {response.status_code}, not {expect}: {response.text[:300]}")
        return response

    def get(self, path: str, **kwargs) -> httpx.Response:
        return self.request("GET", path, **kwargs)

    def post(self, path: str, **kwargs) -> httpx.Response:
        return self.request("POST", path, **kwargs)

    def login_form(self, user: str, password: str) -> httpx.Response:
        """The way a browser does it: page, hidden token, form, redirect."""
        page = Page(self.get("/login/").text)
        # Superset 6 draws the form in the browser; its token is in the bootstrap data.
        token = page.csrf or page.bootstrap.get("common", {}).get("conf", {}).get("csrf_token")
        return self.post(
            "/login/",
            data={"csrf_token": token or self.fetch_csrf(), "username": user, "password": password},
            headers={"Referer": self.base + "/login/"},
            expect=(302,),
        )

    def login_api(self, user: str, password: str) -> str:
        body = {"username": user, "password": password, "provider": "db", "refresh": True}
        tokens = self.post("/api/v1/security/login", json=body).json()
        self.token = tokens["access_token"]
        WITNESS.keep(tokens["refresh_token"])
        return self.token

    def fetch_csrf(self) -> str:
        self.csrf = self.get("/api/v1/security/csrf_token/", bearer=True).json()["result"]
        return self.csrf

    def cookie_header(self) -> str:
        return "; ".join(f"{c.name}={c.value}" for c in self.http.cookies.jar)

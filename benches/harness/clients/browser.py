"""What the loads send as a browser does, and how they connect."""

import socket
import ssl

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9",
    "Referer": "https://bi.example.com/superset/dashboard/3/",
    "Cookie": "session=.eJwlzjkOwjAQAMC_uKbYw2s7-Qzay4Q2IRXi70Ri5gPvsq8jzqfYXscZt2L78rIVJ0dwnSl1QJVJg3nCkC",
}
# What the origin answers with 1 KiB.
SMALL = "/api/v1/chart/data?form_data=%7B%22slice_id%22%3A64%7D"


def request(path, fields):
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# As short as a load needs that is about connections.
AGENT = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"}
UPGRADE = request("/ws", {**AGENT, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                          "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def trusting(*protocols):
    """TLS with any certificate, and these protocols by ALPN, if any."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    return context

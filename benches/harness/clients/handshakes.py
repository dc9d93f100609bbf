"""TLS handshakes: `handshakes.py PORT full|resumed CLIENTS SECONDS`.

Each client connects, asks one request, reads the answer to its end, and connects anew. A resumed one offers the ticket of
the connection before (RFC 8446 §4.6.1), and fails unless it was taken; a full one offers none.
"""

import json
import os
import ssl
import sys
import time

from browser import AGENT, connect, request, trusting

ASK = request("/api/v1/chart/data", {**AGENT, "Accept": "application/json", "Connection": "close"})


def exchange(port, context, ticket):
    """One connection: the time to its answer's end, and its ticket."""
    began = time.perf_counter()
    with connect(port) as connection:
        stream = context.wrap_socket(connection, server_hostname="localhost", session=ticket)
        assert stream.session_reused == bool(ticket), f"resumed: {stream.session_reused}"
        stream.sendall(ASK)
        answer = b""
        while piece := stream.recv(8192):
            answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200" in head[:13] and len(body) >= 1024, answer[:200]
        took = time.perf_counter() - began
        return took, stream.session


def client(port, kind, seconds, first):
    context = trusting("http/1.1")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    ticket = exchange(port, context, None)[1] if first else None
    yield "ready"
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        took, newest = exchange(port, context, ticket)
        ticket = newest if kind == "resumed" else None
        times.append(took)
    yield times


def main():
    port, kind, clients, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    children = []
    for _ in range(clients):
        (down_read, down_write), (up_read, up_write) = os.pipe(), os.pipe()
        if os.fork() == 0:
            steps = client(port, kind, seconds, kind == "resumed")
            next(steps)
            os.write(up_write, b"r")
            os.read(down_read, 1)
            with os.fdopen(up_write, "w") as out:
                json.dump(next(steps), out)
            os._exit(0)
        os.close(up_write)
        children.append((down_write, up_read))
    for _, up_read in children:
        assert os.read(up_read, 1) == b"r", "a client ended"
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    for down_write, _ in children:
        os.write(down_write, b"g")
    times = []
    for _, up_read in children:
        with os.fdopen(up_read) as answers:
            times += json.load(answers)
    print(json.dumps({"done": len(times), "wall": time.perf_counter() - began, "times": sorted(times)}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()

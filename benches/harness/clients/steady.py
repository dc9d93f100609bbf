"""An open loop: `steady.py PORT plain-h1|tls-h1|tls-h2 RATE SECONDS CONNECTIONS`, over HTTP/2 with 16 streams on each.

Requests fall due at random (a Poisson process) whether or not earlier ones are answered; a latency counts from when its
request was due, so that a proxy that stalls does not slow down who measures it. `late` is how far behind its own plan the
client was when it sent, at the 99th percentile: what is near it is not the proxy's.
"""

import collections
import ctypes
import json
import random
import select
import ssl
import sys
import time

import browser
import frames

ASK = browser.request(browser.SMALL, browser.BROWSER)
PR_SET_TIMERSLACK = 29
STREAMS = 16


def connect(port, tls):
    connection = browser.connect(port)
    if tls:
        connection = tls.wrap_socket(connection, server_hostname="localhost")
    return connection


def ask_once(connection):
    connection.sendall(ASK)
    answer = b""
    while not complete(answer):
        piece = connection.recv(8192)
        assert piece, answer
        answer += piece


def complete(answer):
    head, end, body = answer.partition(b"\r\n\r\n")
    assert not answer or answer.startswith(b"HTTP/1.1 200"[:len(answer)]), answer[:200]
    return bool(end) and len(body) >= 1024


class Http1:
    """A connection with one request at a time."""

    streams = 1

    def __init__(self, connection):
        self.connection, self.got = connection, b""

    def ask_once(self):
        ask_once(self.connection)

    def send(self):
        self.got = b""
        self.connection.send(ASK)
        return 0

    def take(self, piece):
        self.got += piece
        return [0] if complete(self.got) else []


class Http2:
    """A connection with many."""

    streams = STREAMS

    def __init__(self, connection):
        self.connection, self.session = connection, frames.Session(frames.fields(ASK))
        connection.sendall(frames.HELLO)

    def ask_once(self):
        self.send()
        while not self.take(self.connection.recv(16384)):
            pass

    def send(self):
        stream, request = self.session.request()
        self.connection.send(request)
        return stream

    def take(self, piece):
        ended = self.session.take(piece)
        if self.session.owed:
            self.connection.send(self.session.owed)
            self.session.owed = b""
        return ended


class Loop:
    def __init__(self, clients):
        self.poll, self.by_number = select.epoll(), {}
        self.idle, self.waiting = [], collections.deque()
        self.since, self.times, self.late = {}, [], []
        for client in clients:
            client.connection.setblocking(False)
            number = client.connection.fileno()
            self.by_number[number] = client
            self.poll.register(number, select.EPOLLIN)
        # All first streams before any second one, so that the load spreads.
        for turn in range(STREAMS):
            self.idle += [number for number, client in self.by_number.items() if turn < client.streams]
        self.idle = collections.deque(self.idle)

    def send(self, due):
        if not self.idle:
            self.waiting.append(due)
            return
        number = self.idle.popleft()
        self.since[number, self.by_number[number].send()] = due
        self.late.append(time.perf_counter() - due)

    def receive(self, number):
        client = self.by_number[number]
        try:
            while True:
                piece = client.connection.recv(16384)
                assert piece, "a connection ended"
                for stream in client.take(piece):
                    self.times.append(time.perf_counter() - self.since.pop((number, stream)))
                    self.idle.append(number)
                    if self.waiting:
                        self.send(self.waiting.popleft())
        except (ssl.SSLWantReadError, BlockingIOError):
            return

    def run(self, rate, seconds):
        draw, clock = random.Random(4711), time.perf_counter
        began = clock()
        due, end = began + draw.expovariate(rate), began + seconds
        while due < end or self.since:
            now = clock()
            while due <= now and due < end:
                self.send(due)
                due += draw.expovariate(rate)
            # epoll counts in milliseconds, select in microseconds.
            if select.select([self.poll], [], [], max(0.0, due - clock()) if due < end else 1)[0]:
                for number, _ in self.poll.poll(0):
                    self.receive(number)
        return clock() - began


def main():
    port, kind, rate, seconds, count = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)
    tls = None if kind == "plain-h1" else browser.trusting("h2" if kind == "tls-h2" else "http/1.1")
    clients = [(Http2 if kind == "tls-h2" else Http1)(connect(port, tls)) for _ in range(count)]
    for client in clients:
        client.ask_once()
    loop = Loop(clients)
    print("ready", flush=True)
    sys.stdin.readline()
    wall = loop.run(rate, seconds)
    late = sorted(loop.late)
    print(json.dumps({"done": len(loop.times), "wall": wall, "times": sorted(loop.times), "late": late[len(late) * 99 // 100]}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()

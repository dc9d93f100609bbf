"""Messages over WebSockets: `tunnels.py PORT TUNNELS SECONDS BYTES`.

Each tunnel sends a text of BYTES and waits for its echo before the next one. Fails on any that is not the same.
"""

import json
import select
import sys
import time

from browser import UPGRADE, connect


def frame(size):
    """A text frame with a mask of zeros, and its echo (RFC 6455 §5.2)."""
    short = size < 126
    length = bytes([size]) if short else b"\x7e" + size.to_bytes(2, "big")
    masked = bytes([length[0] | 0x80]) + length[1:]
    payload = b"x" * size
    return b"\x81" + masked + b"\0\0\0\0" + payload, b"\x81" + length + payload


def open_tunnel(port):
    connection = connect(port)
    connection.sendall(UPGRADE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(4096)
        assert piece, head
        head += piece
    assert b" 101 " in head.split(b"\r\n")[0], head
    return connection


def main():
    port, tunnels, seconds, size = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    message, answer = frame(size)
    open_ones = [open_tunnel(port) for _ in range(tunnels)]
    print("ready", flush=True)
    sys.stdin.readline()

    poll, by_number, since, got, times = select.epoll(), {}, {}, {}, []
    clock = time.perf_counter
    for connection in open_ones:
        connection.setblocking(False)
        poll.register(connection, select.EPOLLIN)
        by_number[connection.fileno()] = connection
    began = clock()
    end = began + seconds
    for number, connection in by_number.items():
        since[number], got[number] = clock(), b""
        connection.send(message)
    waiting = tunnels
    while waiting:
        for number, _ in poll.poll():
            connection = by_number[number]
            data = connection.recv(4096)
            assert data, "a tunnel ended"
            if data != answer:
                data = got[number] = got[number] + data
                if len(data) < len(answer):
                    continue
                assert data == answer, data
                got[number] = b""
            now = clock()
            times.append(now - since[number])
            if now < end:
                since[number] = now
                connection.send(message)
            else:
                waiting -= 1
    wall = clock() - began
    print(json.dumps({"done": len(times), "wall": wall, "times": sorted(times)}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()

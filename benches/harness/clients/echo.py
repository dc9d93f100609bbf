"""Echoes WebSocket messages: `echo.py PORT`. Takes every upgrade, and sends each frame back unmasked (RFC 6455 §5.2)."""

import base64
import hashlib
import select
import socket
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def echo(data):
    """The answer to the first frame of `data` as a server sends it, and what is behind it; none while it is not whole."""
    start = 8 if len(data) > 1 and data[1] & 0x7F == 126 else 6
    if len(data) < start:
        return b"", data
    length = int.from_bytes(data[2:4], "big") if start == 8 else data[1] & 0x7F
    end = start + length
    if len(data) < end:
        return b"", data
    mask, payload = data[start - 4:start], data[start:end]
    if mask != b"\0\0\0\0":  # the load masks with zeros
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([data[0], data[1] & 0x7F]) + data[2:start - 4] + payload, data[end:]


def main():
    listening = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
    listening.setblocking(False)
    poll, open_ones, rest = select.epoll(), {}, {}
    poll.register(listening, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            if number == listening.fileno():
                connection, _ = listening.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_ones[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                continue
            connection = open_ones[number]
            try:
                data = connection.recv(65536)
                if not data or (data[0] == 0x88 and not rest.get(number)):
                    raise ConnectionError
                if number in rest:
                    answer, rest[number] = echo(rest[number] + data)
                    while answer:
                        connection.send(answer)
                        answer, rest[number] = echo(rest[number])
                    continue
                key = next(line.split(b": ")[1] for line in data.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
                accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
                connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
                rest[number] = b""
            except (OSError, StopIteration):
                open_ones.pop(number).close()
                rest.pop(number, None)


if __name__ == "__main__":
    main()

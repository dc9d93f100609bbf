"""As much of HTTP/2 as the load generators need: requests in constant bytes, and what comes back counted (RFC 9113, RFC 7541)."""

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END, ACKNOWLEDGED = 1, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def text(value):
    """A string without Huffman's code (RFC 7541 §5.2)."""
    size = len(value)
    head = bytes([size]) if size < 127 else bytes([127, (size - 127) & 0x7F | (0x80 if size - 127 > 127 else 0)])
    if size - 127 > 127:
        head += bytes([(size - 127) >> 7])
    return head + value


def fields(request):
    """The field section of a request as HTTP/1.1 writes it; nothing is indexed, so that it is the same each time."""
    lines = request.rstrip(b"\r\n").split(b"\r\n")
    # GET, https and the names of :authority and :path have places in the static table.
    block = b"\x82\x87\x04" + text(lines[0].split(b" ")[1])
    for line in lines[1:]:
        name, value = line.split(b": ", 1)
        block += b"\x01" + text(value) if name == b"Host" else b"\x00" + text(name.lower()) + text(value)
    return block


# An empty SETTINGS, and a window for the connection that no run of 1 KiB answers uses up.
HELLO = PREFACE + frame(SETTINGS, 0, 0) + frame(8, 0, 0, (1 << 30).to_bytes(4, "big"))


class Session:
    """One connection: the streams that are open, and how much of each has come."""

    def __init__(self, block):
        self.block, self.next, self.rest, self.got, self.owed = block, 1, b"", {}, b""

    def request(self):
        """A new stream's number, and its bytes."""
        stream, self.next = self.next, self.next + 2
        self.got[stream] = 0
        return stream, frame(HEADERS, 4 | END, stream, self.block)

    def take(self, data):
        """The streams that end with what was read. What must be answered is in `owed`."""
        data, at, ended = self.rest + data, 0, []
        while len(data) - at >= 9:
            size = int.from_bytes(data[at:at + 3], "big")
            if len(data) - at - 9 < size:
                break
            kind, flags, stream = data[at + 3], data[at + 4], int.from_bytes(data[at + 5:at + 9], "big")
            payload = data[at + 9:at + 9 + size]
            at += 9 + size
            assert kind not in (RESET, GOAWAY), f"frame {kind}: {payload!r}"
            if kind in (SETTINGS, PING) and not flags & ACKNOWLEDGED:
                self.owed += frame(kind, ACKNOWLEDGED, 0, payload if kind == PING else b"")
            if kind == HEADERS:
                # :status 200 is one octet, perhaps behind a change of the table's size.
                assert b"\x88" in payload[:4], payload
            if kind == DATA:
                self.got[stream] += size
            if kind in (DATA, HEADERS) and flags & END:
                assert self.got.pop(stream) == 1024, f"stream {stream}: short"
                ended.append(stream)
        self.rest = data[at:]
        return ended

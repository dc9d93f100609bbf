"""Instructions and allocations of an exchange, under callgrind: figures that do not depend on what else the machine does."""

import re
import time

from .proc import output
from .stand import Wrong


def exchanges(bench, name, ask, requests, kept, **more):
    """Instructions, and calls into the allocator, by exchange, and the last dump. `ask` asks a proxy so many requests."""
    for old in kept.parent.glob(kept.name + "*"):
        old.unlink()
    proxy = bench.start(name, ["valgrind", "--tool=callgrind", f"--callgrind-out-file={kept}"], master="off", **more)
    counts = []
    try:
        # What came before a dump is not in the next one: start-up, and what is made once.
        for number, some in enumerate((requests // 4, requests, 2 * requests), 1):
            ask(proxy, some)
            time.sleep(0.5)  # the log's thread catches up
            done = output("callgrind_control", "--dump", str(proxy.pid))
            part = kept.parent / f"{kept.name}.{number}"
            if not part.exists():
                raise Wrong(f"callgrind_control made no {part.name}: {done}")
            counts.append(read(part))
    finally:
        bench.stop(proxy.child)
    (_, once, twice) = counts
    return [(of_two - of_one) / requests for of_one, of_two in zip(once, twice)], part


def read(part):
    """Instructions and calls into the allocator in a dump."""
    total, allocations, names, caller, called = 0, 0, {}, "", ""
    with open(part, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if match := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?", line):
                kind, number, text = match.groups()
                function = names.setdefault(number, text) if text else names.get(number, "")
                if kind == "fn":
                    caller = function
                else:
                    called = function
            elif line.startswith("calls="):
                if re.match(r"_?mi_(theap_|heap_)?(malloc|zalloc|calloc|realloc)|(malloc|calloc|realloc)$", called) and "mi_" not in caller[:4]:
                    allocations += int(line[6:].split()[0])
            elif match := re.match(r"(?:summary|totals): (\d+)", line):
                total = int(match[1])
    return total, allocations

"""What processes took: CPU time, memory, and what was left of a core."""

import contextlib
import os
import pathlib
import re
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


def output(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    return (done.stdout + done.stderr).strip()


def tree(pid):
    """`pid` and its descendants."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                children = pathlib.Path(f"/proc/{each}/task/{task}/children").read_text()
                found += [int(child) for child in children.split()]
    return found


def thread_seconds(pid):
    """CPU time of each thread of a process tree, by its id: the kernel's nanoseconds on the CPU."""
    times = {}
    for each in tree(pid):
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                with contextlib.suppress(OSError):
                    times[int(task)] = int(pathlib.Path(f"/proc/{each}/task/{task}/schedstat").read_text().split()[0]) / 1e9
    return times


def threads_named(pid, *names):
    """The threads of a process tree that have one of these names, by their ids."""
    found = set()
    for each in tree(pid):
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                with contextlib.suppress(OSError):
                    if pathlib.Path(f"/proc/{each}/task/{task}/comm").read_text().strip() in names:
                        found.add(int(task))
    return found


def cpu_seconds(pid):
    """User plus system time of a process tree, that of threads which have ended included."""
    seconds = 0.0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            # The clock of a process, as clock_getcpuclockid(3) makes its number.
            seconds += time.clock_gettime((~each << 3) | 2)
    return seconds


def resident_kib(pid):
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            found = re.search(r"^Rss:\s+(\d+)", pathlib.Path(f"/proc/{each}/smaps_rollup").read_text(), re.M)
            total += int(found[1]) if found else 0
    return total


def busy_seconds(core):
    """Time that one core was not idle."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / TICK
    return 0.0

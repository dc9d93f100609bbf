"""Two workers against one, what the log costs, and sizes of the configuration that must cost nothing: variants of the same
proxy in turn."""

from . import loads, proc, scenarios, turns
from .clients.browser import SMALL
from .report import compared, spread, title
from .stand import LOAD_CORE, PROXY_CORE, Wrong

KIB = 1 << 10


def variants(bench, names, options, tell, key, kinds):
    """Measures of each proxy under each of `kinds`: by title, how it is started and what it is asked."""
    bench.scenario = key
    results, failures = {}, {}
    for name in names:
        started = {}
        try:
            rows = {kind: [] for kind in kinds}
            for kind, (more, _) in kinds.items():
                shared = [started[other] for other in started if kinds[other][0] == more]
                started[kind] = shared[0] if shared else bench.stand.start(name, **more)
            for number in range(-1, options.rounds):
                for kind, (_, load) in kinds.items():
                    proxy = started[kind]
                    before = proc.thread_seconds(proxy.pid)
                    each = turns.turn(bench, proxy, load, options.seconds if number >= 0 else 0.3, False)
                    after = proc.thread_seconds(proxy.pid)
                    took = sorted((after[task] - before.get(task, 0) for task in after), reverse=True)
                    each["busiest"] = took[0] / (sum(took[:2]) or 1)
                    logging_threads = proc.threads_named(proxy.pid, "access-log", "log-local")
                    each["log_us"] = sum(after[task] - before.get(task, 0) for task in logging_threads if task in after) / each["requests"] * 1e6
                    if number < 0:  # warms
                        continue
                    rows[kind].append(each)
                    tell(f"{key} {number + 1} {name:<11} {kind:<28} {each['cpu_us']:8.1f} µs  {each['rate']:9,.0f}/s")
            for proxy in set(started.values()):
                proxy.verify()
            results[name] = rows
        except Wrong as why:
            failures[name] = str(why)
            tell(f"{key}   {name:<11} FAILED: {why}")
        finally:
            for proxy in set(started.values()):
                bench.stand.stop(proxy.child)
    return results, failures


def workers(bench, names, options, tell):
    """The load shares the second worker's core: what two gain is less than they could."""
    both = dict(workers=2, cores=f"{PROXY_CORE},{LOAD_CORE}")
    h1 = scenarios.SCENARIOS["tls-h1"].load
    h2 = scenarios.fitted(True, False, SMALL, KIB, 8, 16, 2000)
    results, failures = variants(bench, names, options, tell, "workers", {
        "one": ({}, h1), "two": (both, h1), "two, eight h2 connections": (both, h2)})
    lines = ["| | requests/s of two over one | CPU per request of two over one | busiest thread's share, 64 h1 connections | with eight h2 connections |",
             "| --- | --- | --- | --- | --- |"]
    for name, rows in results.items():
        one, two, eight = rows.values()
        lines.append(f"| {title(name)} | ×{spread(compared(two, one, 'rate'))} | ×{spread(compared(two, one, 'cpu_us'))} "
                     f"| {spread([each['busiest'] for each in two], '{:.0%}')} | {spread([each['busiest'] for each in eight], '{:.0%}')} |")
    note = ("TLS 1.3, 1 KiB, 64 connections of HTTP/1.1; then eight connections of HTTP/2 with 16 streams. One worker on core 0, two on both: "
            "**load and origin share the second worker's core**, so that two workers cannot bring twice as much. *Busiest thread's share*: of the CPU "
            "time of the two busiest threads; 50 % is even. Go's threads belong to no connection.")
    return {"title": "Two workers against one", "note": note, "table": lines, "rounds": results, "failures": failures}


def growth(bench, names, options, tell, key):
    """A thousand endpoints, or routes, against one."""
    plain = scenarios.SCENARIOS["plain-h1"].load

    def routed(bench, proxy, seconds):
        return scenarios.plainly(loads.wrk, proxy, proxy.url(False, "/r777/"), scenarios.CONNECTIONS, seconds, KIB)
    one, many, load = {
        "endpoints-1000": (dict(endpoints=1), dict(endpoints=1000), plain),
        "routes-1000": (dict(routes=0), dict(routes=997), routed),
    }[key]
    what = key.partition("-")[0]
    results, failures = variants(bench, [name for name in names if name != "floor"], options, tell, key,
                                 {f"1 {what[:-1]}": (one, load), f"1,000 {what}": (many, load)})
    lines = [f"| | CPU µs per request | with 1,000 {what} | ratio |", "| --- | --- | --- | --- |"]
    for name, rows in results.items():
        few, more = rows.values()
        lines.append(f"| {title(name)} | {spread([each['cpu_us'] for each in few], '{:.1f}')} | {spread([each['cpu_us'] for each in more], '{:.1f}')} "
                     f"| ×{spread(compared(more, few, 'cpu_us'))} |")
    note = "Plain HTTP/1.1, 1 KiB, 64 connections. " + {
        "endpoints": "A thousand endpoints need fifteen times as many connections to them as there are clients, and two hundred checks per second where "
                     "the proxy checks: part of the growth is the kernel's.",
        "routes": "997 routes by path beside those that are there, all to the same pool; the request is for the 778th of them."}[what]
    return {"title": f"1,000 {what} against one", "note": note, "table": lines, "rounds": results, "failures": failures}


def logging(bench, options, tell):
    """A JSON line per exchange in a file against no log at all, over each protocol."""
    lines = ["| | CPU µs per request without a log | JSON to a file | on over off | the log's threads, off | on | more, of all without a log |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    rounds, failures = {}, {}
    for key in ["plain-h1", "tls-h1", "tls-h2"]:
        load = scenarios.SCENARIOS[key].load
        results, failed = variants(bench, ["sluicegate"], options, tell, f"logging {key}",
                                   {"off": (dict(without=("log",)), load), "on": ({}, load)})
        failures |= failed
        for rows in results.values():
            off, on = rows.values()
            rounds[key] = rows
            own = [(now["log_us"] - before["log_us"]) / before["cpu_us"] for before, now in zip(off, on)]
            lines.append(f"| {key} | {spread([each['cpu_us'] for each in off], '{:.1f}')} | {spread([each['cpu_us'] for each in on], '{:.1f}')} "
                         f"| ×{spread(compared(on, off, 'cpu_us'))} | {spread([each['log_us'] for each in off])} "
                         f"| {spread([each['log_us'] for each in on])} | {spread(own, '{:.1%}')} |")
    note = ("1 KiB, everything else on. Off is `access_log.target = \"off\"`; the flight recorder keeps what it keeps by default in both. A worker hands "
            "its record over in both, so that what a line costs is the work of the log's threads (`access-log`, which makes it, and `log-local`, which "
            "writes it) and what the worker misses in the caches for it. Of a turn of one and the same proxy the whole swings by tens of percents on a "
            "machine that is shared, the share of two threads by little.")
    return {"title": "What the access log costs", "note": note, "table": lines, "rounds": rounds, "failures": failures}

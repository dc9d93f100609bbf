"""Scenarios of turns: each proxy once in every round, in an order that shifts."""

from .stand import Wrong
from .turns import turn


def rounds(bench, key, scenario, proxies, options, tell):
    """Measures of each proxy, a list by its name; a proxy that fails leaves the scenario, and why is told."""
    bench.scenario = key
    taking_part = [proxy for proxy in proxies.values() if scenario.suits(proxy.name)]
    results, failures = {proxy.name: [] for proxy in taking_part}, {}

    def fails(proxy, why):
        failures[proxy.name] = str(why)
        results.pop(proxy.name, None)
        proxy.forget()
        tell(f"{key}   {proxy.name:<11} FAILED: {why}")

    for number in range(options.rounds):
        shift = number % len(taking_part)
        for proxy in taking_part[shift:] + taking_part[:shift]:
            if proxy.name in failures:
                continue
            try:
                each = turn(bench, proxy, scenario.load, options.seconds, scenario.warm)
            except Wrong as why:
                fails(proxy, why)
                continue
            results[proxy.name].append(each)
            tell(f"{key} {number + 1} {proxy.name:<11} {each['cpu_us']:8.1f} µs  {each['rate']:9,.0f}/s  p99 {each['p99']:7.2f}  "
                 f"busy {each['busy']:4.0%}  foreign {each['foreign']:4.0%}  load core {each['load_busy']:4.0%}")
    for proxy in taking_part:
        if proxy.name not in failures:
            try:
                proxy.verify()
            except Wrong as why:
                fails(proxy, why)
    return results, failures

"""What a run found, as Markdown and as JSON with every round."""

import json
import os
import platform
import statistics
import time

from .idle import KINDS
from .peers import TITLES

OURS = "sluicegate"
# A run of fewer rounds or shorter turns is a short one, and says so.
FULL_ROUNDS, FULL_SECONDS = 5, 1.5


def title(name):
    return TITLES.get(name, name)


def median(turns, measure):
    return statistics.median(each[measure] for each in turns)


def spread(values, form="{:.2f}"):
    return f"{form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"


def compared(over, under, measure="cpu_us"):
    """One over the other, round by round."""
    return [each[measure] / other[measure] for each, other in zip(over, under) if other[measure]]


def ratios(results, peer):
    return compared(results[OURS], results[peer])


def machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"a machine with {os.cpu_count()} cores of {platform.machine()} and {memory:.0f} GiB, Linux {platform.release().split('-')[0]}"


def of_turns(scenario):
    """The table of one scenario."""
    results = scenario["rounds"]
    lines = [f"| | CPU µs per {scenario['unit']} | ours against it | per second | p50 ms | p99 ms | p99.9 ms | RSS MiB | core busy | foreign |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for peer, turns in results.items():
        against = "" if peer == OURS or not results.get(OURS) else "**×" + spread(ratios(results, peer)).replace(" ", "** ", 1)
        lines.append(f"| {title(peer)} | {spread([each['cpu_us'] for each in turns], '{:,.1f}')} | {against} | {median(turns, 'rate'):,.0f} "
                     f"| {median(turns, 'p50'):.2f} | {median(turns, 'p99'):.2f} | {median(turns, 'p999'):.2f} | {median(turns, 'rss'):.0f} "
                     f"| {median(turns, 'busy'):.0%} | {median(turns, 'foreign'):.0%} |")
    late = [each["late"] for turns in results.values() for each in turns if "late" in each]
    if late:
        lines.append(f"\nLatencies count from when a request was due. The client itself was late by {statistics.median(late):.2f} ms at its 99th "
                     f"percentile (at most {max(late):.2f} in a round): what is near that is not the proxy's.")
    return lines


def overview(scenarios, names):
    """Ours over theirs, all scenarios in one table."""
    peers = [name for name in names if name != OURS]
    lines = ["| | ours, CPU µs | " + " | ".join(map(title, peers)) + " |", "| --- " * (len(peers) + 2) + "|"]
    for key, scenario in scenarios.items():
        results = scenario.get("rounds", {})
        if "unit" not in scenario or not results.get(OURS):
            continue
        cells = [f"×{spread(ratios(results, peer))}" if results.get(peer) else "failed" if peer in scenario["failures"] else "" for peer in peers]
        lines.append(f"| {key} | {median(results[OURS], 'cpu_us'):,.1f} | " + " | ".join(cells) + " |")
    return lines if len(lines) > 2 else []


def idle_table(scenarios, names):
    kinds = {key: scenarios[key] for key in KINDS if key in scenarios}
    if not kinds:
        return []
    lines = ["| KiB a connection | " + " | ".join(map(title, names)) + " |", "| --- " * (len(names) + 1) + "|"]
    for scenario in kinds.values():
        cells = [f"{scenario['kib'][name]:.1f}" if name in scenario["kib"] else "" for name in names]
        lines.append(f"| {scenario['title']} | " + " | ".join(cells) + " |")
    count = next(iter(kinds.values()))["connections"]
    lines.append(f"\nGrowth of resident memory by {count:,} connections that have had one exchange and rest, each kind in a fresh process.")
    return lines


def markdown(run):
    names, scenarios = list(run["versions"]), run["scenarios"]
    all_turns = [each for scenario in scenarios.values() if "unit" in scenario for turns in scenario["rounds"].values() for each in turns]
    parts = [
        "# Side by side\n",
        f"Written by `benches/compare --rounds {run['rounds']} --seconds {run['seconds']:g}` on {run['date']}, on {machine()}. One worker of each proxy "
        f"on core 0, load and origin on core 1. The run took {run['minutes']:.0f} minutes"
        + (": **a short one**, whose spreads say more than its medians.\n" if run["rounds"] < FULL_ROUNDS or run["seconds"] < FULL_SECONDS else ".\n"),
        ", ".join(f"{title(name)} {version}" for name, version in run["versions"].items()) + ".\n",
        "Medians (least to most) of the rounds. *Ours against it*: our CPU time over the peer's, of the same round; below 1 we are cheaper. CPU time is "
        "user plus system of the whole process tree. *Core busy*: the proxy's own share of its core; *foreign*: what others took of that core, the "
        "kernel's work in interrupts included. Every answer had its status and its size, every request its line in the log.\n",
    ]
    if all_turns:
        parts.append(f"Foreign CPU on the proxy's core, of all turns: median {median(all_turns, 'foreign'):.0%}, at most "
                     f"{max(each['foreign'] for each in all_turns):.0%}. The load's core was {median(all_turns, 'load_busy'):.0%} busy.\n")
    if ciphers := {name: cipher for name, cipher in run["ciphers"].items() if cipher}:
        same = set(ciphers.values())
        parts.append("Cipher of TLS 1.3 over TCP: " + (f"{same.pop()} of all.\n" if len(same) == 1 else
                     ", ".join(f"{title(name)} {cipher}" for name, cipher in ciphers.items()) + ".\n"))
    if lines := overview(scenarios, names):
        parts += ["## CPU time, ours over theirs\n", "\n".join(lines) + "\n"]
    for plot in run["plots"]:
        parts.append(f"![{plot}]({plot})\n")
    for key, scenario in scenarios.items():
        if "unit" in scenario:
            parts += [f"## {scenario['title']}\n", "\n".join(of_turns(scenario)) + "\n"]
    if lines := idle_table(scenarios, names):
        parts += ["## Memory of an idle connection\n", "\n".join(lines) + "\n"]
    for scenario in scenarios.values():
        if "table" in scenario:
            parts += [f"## {scenario['title']}\n", scenario["note"] + "\n", "\n".join(scenario["table"]) + "\n"]
    failures = [f"- {key}, {title(name)}: {' '.join(why.split())[:300]}"
                for key, scenario in scenarios.items() for name, why in scenario["failures"].items()]
    if failures:
        parts += ["## What failed\n", "\n".join(failures) + "\n"]
    return "\n".join(parts)


def write(run, path, began):
    """The table at `path`, every round in a JSON file beside it."""
    run["minutes"] = (time.monotonic() - began) / 60
    with open(path, "w", encoding="utf-8") as out:
        out.write(markdown(run))
    with open(os.path.splitext(path)[0] + ".json", "w", encoding="utf-8") as out:
        # A line for each scenario.
        scenarios = ",\n".join(f"{json.dumps(key)}: {json.dumps(found)}" for key, found in run["scenarios"].items())
        rest = json.dumps({key: value for key, value in run.items() if key != "scenarios"})
        out.write(f'{rest[:-1]}, "scenarios": {{\n{scenarios}}}}}\n')

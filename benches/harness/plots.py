"""Plots of a run, as SVG by matplotlib (PyPI); without it there are none."""

import os
import statistics

from .idle import KINDS
from .report import OURS, title

try:
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
except ImportError:
    pyplot = None

OURS_COLOUR, OTHERS, FLOOR = "#1f6f8b", "#b8b8b8", "#e2e2e2"


def colour(name):
    return {OURS: OURS_COLOUR, "floor": FLOOR}.get(name, OTHERS)


def panels(charts, path, unit):
    """Horizontal bars, a panel for each chart: title, and by name a value with its least and most."""
    columns = min(3, len(charts))
    rows = -(-len(charts) // columns)
    height = 0.24 * max(len(bars) for _, bars in charts) + 0.7
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.2 * columns, height * rows), squeeze=False)
    for axis in axes.flat[len(charts):]:
        axis.remove()
    for axis, (heading, bars) in zip(axes.flat, charts):
        names = list(bars)[::-1]
        values = [bars[name][0] for name in names]
        errors = [[value - bars[name][1] for name, value in zip(names, values)], [bars[name][2] - value for name, value in zip(names, values)]]
        axis.barh([title(name) for name in names], values, color=[colour(name) for name in names], xerr=errors,
                  error_kw={"elinewidth": 0.8, "ecolor": "#555555"})
        for at, value in enumerate(values):
            axis.text(0, at, f" {value:,.3g}" if value < 100 else f" {value:,.0f}", va="center", fontsize=7)
        axis.set_title(heading, fontsize=8)
        axis.set_xlabel(unit, fontsize=7)
        axis.tick_params(labelsize=7)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def bars(results, measure):
    found = {}
    for name, turns in results.items():
        values = [each[measure] for each in turns]
        if values:
            found[name] = (statistics.median(values), min(values), max(values))
    return found


def draw(run, out):
    """Draws what there is beside `out`; the names of the files."""
    if pyplot is None:
        return []
    # Text as text: small, found by who searches, and in the reader's own font.
    matplotlib.rcParams.update({"svg.hashsalt": "sluicegate", "svg.fonttype": "none"})
    measured = {key: each for key, each in run["scenarios"].items() if "unit" in each and any(each["rounds"].values())}
    idle = {key: each for key, each in run["scenarios"].items() if key in KINDS and each["kib"]}
    stem, files = os.path.splitext(out)[0], []

    def plot(kind, charts, unit):
        if charts:
            panels(charts, f"{stem}-{kind}.svg", unit)
            files.append(os.path.basename(f"{stem}-{kind}.svg"))

    plot("cpu", [(f"{key}, per {each['unit']}", bars(each["rounds"], "cpu_us")) for key, each in measured.items()], "CPU µs")
    plot("p99", [(each["title"], bars(each["rounds"], "p99")) for each in measured.values() if each["open_loop"]], "p99, ms")
    plot("idle", [(each["title"], {name: (kib,) * 3 for name, kib in each["kib"].items()}) for each in idle.values()], "KiB a connection")
    return files

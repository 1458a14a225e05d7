"""Writes the tables of docs/benchmarks.md from benchmarks/results/*.json: `python -m benchmarks.tables`."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

from trainer.evaluate import wilson_interval

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "benchmarks.md"
RESULTS = PROJECT / "benchmarks" / "results"
BEGIN, END = "<!-- written by benchmarks/tables.py -->", "<!-- end -->"

Results = dict[str, dict[str, Any]]
"""Name of a measurement -> what a benchmark wrote."""


def results() -> Results:
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def table(columns: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "Not measured yet.\n"
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (columns, ["---"] * len(columns), *rows))


def of_kind(found: Results, benchmark: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, result) for name, result in found.items() if result["benchmark"] == benchmark]


def variants(found: Results, benchmark: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """What to call it, the result it belongs to, the variant."""
    for name, result in of_kind(found, benchmark):
        for variant in result["variants"]:
            flags = f"{result['flags']} {variant['flags']}".strip()
            yield f"{name}: {f'`{flags}`' if flags else 'no flags'}, {variant['precision']}", result, variant


def middle(values: list[float], form: str = ",.0f") -> str:
    """Median, and the smallest and largest round."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def speeds(side: dict[str, Any]) -> str:
    return middle([run if isinstance(run, float) else run["images_per_second"] for run in side["runs"]])


def gigabytes(sides: list[list[dict[str, Any]]], key: str) -> str:
    """The highest of each side's rounds, in GB; nothing where none was measured."""
    highest = [max(run[key] or 0 for run in runs) / 1e9 for runs in sides]
    return " / ".join(f"{each:.2f}" for each in highest) if any(highest) else ""


def throughput(found: Results) -> str:
    rows = []
    for name, result, variant in variants(found, "train_throughput"):
        sides = (result["classic"], variant["ours"], variant["bare"])
        runs = [side["runs"] for side in sides]
        ratios = [f"{variant['ours_over_classic']:.2f}", f"{1 - variant['ours_over_bare']:.1%}"]
        warmup = " / ".join(f"{max(run['warmup_seconds'] for run in each):.1f}" for each in runs)
        memory = [gigabytes(runs, key) for key in ("peak_host_bytes", "peak_device_bytes")]
        rows.append([name, *map(speeds, sides), *ratios, warmup, *memory])
    columns = ["measurement", "standard loop", "this trainer", "upper bound", "speed-up", "overhead"]
    return table([*columns, "warm-up, s", "host memory, GB", "GPU memory, GB"], rows)


def scaling(found: Results) -> str:
    rows = []
    for name, _, variant in variants(found, "train_scaling"):
        for size in variant["sizes"]:
            seconds = [f"{size['epoch_seconds']:.2f}", f"{size['seconds_per_1000_images']:.4f}"]
            memory = gigabytes([size["runs"]], "peak_host_bytes")
            rows.append([name, f"{size['train_images']:,}", speeds(size), *seconds, memory])
    columns = ["measurement", "training images", "images/s", "seconds per epoch", "seconds per 1,000 images"]
    return table([*columns, "host memory, GB"], rows)


def input_pipeline(found: Results) -> str:
    rows = []
    for name, result in of_kind(found, "input_pipeline"):
        for crop, sides in result["crops"].items():
            of_each = [speeds(sides[key]) for key in ("batched", "pil", "v2")]
            ratios = [f"{sides[key]:.1f}" for key in ("batched_over_pil", "batched_over_v2")]
            on_gpu = [speeds(side) for key, side in sides.items() if key.startswith("batched on ")] or [""]
            rows.append([name, crop, *of_each, *ratios, *on_gpu])
    columns = ["measurement", "crop", "batched", "per image, Pillow", "per image, v2 on tensors"]
    return table([*columns, "batched / Pillow", "batched / v2", "batched on the GPU"], rows)


def serving(found: Results) -> str:
    """Latency: the median of the rounds' own percentiles. Busy and errors: of all rounds together."""
    rows = []
    for name, result in of_kind(found, "serving"):
        for cell in result["cells"]:
            sides = cell["sides"]
            runs = [side["runs"] for side in sides.values()]
            rates = [middle([run["requests_per_second"] for run in each], ",.1f") for each in runs]
            ratios = [f"{sides[side]['rate_over_plain'] or 0:.2f}" for side in ("rest", "page")]
            waits = [" / ".join(wait(each, percent) for each in runs) for percent in ("p50", "p95", "p99")]
            cost = " / ".join(f"{processor_ms(each):.0f}" for each in runs)
            size = [str(cell["clients"]), f"{cell['megabytes']:g}"]
            rows.append([name, *size, *rates, *ratios, *waits, cost, " / ".join(map(failures, runs))])
    columns = ["measurement", "clients", "MB", "rest, answers/s", "page, answers/s", "plain, answers/s", "rest / plain"]
    return table([*columns, "page / plain", "p50, ms", "p95, ms", "p99, ms", "processor ms", "busy or errors"], rows)


def wait(runs: list[dict[str, Any]], percent: str) -> str:
    values = [run["latency"][percent] for run in runs if run["latency"]]
    return f"{median(values):,.0f}" if values else "-"


def processor_ms(runs: list[dict[str, Any]]) -> float:
    """Of the server, per answer."""
    return median(1000 * run["server_processor_seconds"] / max(1, run["answered"]) for run in runs)


def failures(runs: list[dict[str, Any]]) -> str:
    """ "0", or how many of each kind."""
    kinds = Counter(busy=sum(run["busy"] for run in runs))
    for run in runs:
        kinds.update(run["errors"])
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count) or "0"


def processes(found: Results) -> str:
    rows = []
    for name, result in of_kind(found, "processes"):
        rates = [middle([run["requests_per_second"] for run in result["runs"][side]]) for side in ("one", "two")]
        rows.append([name, *rates, f"{result['two_over_one']:.2f}"])
    return table(["measurement", "one process, answers/s", "two processes, answers/s", "two / one"], rows)


STARTS = {
    "seconds to the first page": ("seconds", 1, ".2f"),
    "processor seconds": ("processor_seconds", 1, ".2f"),
    "memory, MB": ("resident_bytes", 1e6, ",.0f"),
}
"""What is measured -> its key, unit and format."""


def start(found: Results) -> str:
    rows = []
    for name, result in of_kind(found, "start"):
        for what, (key, unit, form) in STARTS.items():
            values = [[run[key] / unit for run in result[side]["runs"]] for side in ("app", "bare")]
            rows.append([name, what, *(middle(each, form) for each in values), f"{result[f'{key}_ratio']:.2f}"])
    return table(["measurement", "", "app", "bare page", "app / bare page"], rows)


def soak(found: Results) -> str:
    """The samples at the beginning, after each quarter and at the end; growth is that of the last half."""
    rows = []
    for name, result in of_kind(found, "soak"):
        for side, measured in result["sides"].items():
            samples, growth = measured["samples"], measured["last_half_per_1000"]
            shown = [samples[len(samples[1:]) * quarter // 4] for quarter in range(5)]
            units = {"resident_bytes": 1e6, "open_files": 1, "upload_files": 1}
            course = [" / ".join(f"{each[key] / unit:,.0f}" for each in shown) for key, unit in units.items()]
            answered = samples[-1]["predictions"] - measured["busy"] - sum(measured["errors"].values())
            speed, memory = f"{answered / measured['seconds']:.1f}", f"{growth['resident_bytes'] / 1e6:+.2f}"
            rows.append([name, side, f"{answered:,}", speed, failures([measured]), *course, memory])
    columns = ["measurement", "side", "answers", "answers/s", "busy or errors", "memory, MB", "open files"]
    return table([*columns, "stored images", "memory growth, MB per 1,000"], rows)


def threshold(found: Results) -> str:
    """A row per category of images, and their mean."""
    rows, scores = [], []
    for name, result in of_kind(found, "threshold"):
        scores = list(result["thresholds"])
        below = {**result["below"], f"**mean of {len(result['below'])} categories**": result["mean_below"]}
        below |= {"val images": result["val_below"]}
        rows += [[name, kind, *(f"{shares[score]:.1%}" for score in scores)] for kind, shares in below.items()]
        rows.append([name, "*threshold*", *(f"{result['thresholds'][score]:.3f}" for score in scores)])
    return table(["measurement", "images", *scores], rows)


def short(commit: str | None) -> str:
    """Twelve digits, and whether files differed from it."""
    digits, dirty, _ = (commit or "unknown").partition("-dirty")
    return digits[:12] + dirty


def machines(found: Results) -> str:
    rows = []
    for name, result in found.items():
        here = result["machine"]
        device = result.get("device") or result["variants"][0]["device"]
        versions = ", ".join(f"{package} {number}" for package, number in here["versions"].items())
        settings = ", ".join(f"{setting.replace('_', ' ')} {value:,}" for setting, value in result["settings"].items())
        place = [device if here["cpu"] in device else f"{device}; {here['cpu']}", f"{here['load_average']:.1f}"]
        made = [str(result["rounds"]), here["started"][:10], short(here["git_commit"])]
        rows.append([name, *place, settings, *made, versions])
    return table(["measurement", "hardware", "load", "settings", "rounds", "date", "commit", "software"], rows)


def own_images(found: Results) -> str:
    """Means of the seeds. All have the same test images, so that the interval is that of one run with that accuracy."""
    rows = []
    for name, result in of_kind(found, "own_images"):
        for variant in (each for each in result["variants"] if each["runs"]):
            runs, flags = variant["runs"], f"`{variant['flags']}`" if variant["flags"] else "none"
            accuracy, seconds = (mean(run[key] for run in runs) for key in ("accuracy", "wall_seconds"))
            low, high = wilson_interval(mean(run["correct"] for run in runs), runs[0]["n"])
            each = ", ".join(f"{run['accuracy']:.2%}" for run in runs)
            scores = [f"{accuracy:.2%}", f"{low:.2%} to {high:.2%}", each, f"{runs[0]['n']:,}"]
            rows.append([name, variant["images"], flags, *scores, str(runs[0]["epochs"]), f"{seconds:.0f}"])
    columns = ["measurement", "images", "flags", "test accuracy", "95% interval", "of each seed"]
    return table([*columns, "test images", "epochs", "seconds"], rows)


TABLES: list[Callable[[Results], str]] = [
    *(throughput, scaling, input_pipeline, serving, processes, start, soak, threshold, own_images, machines)
]


def of(found: Results) -> str:
    """The tables that have something to say about these results."""
    return "\n".join(text for text in (make(found) for make in TABLES) if text.startswith("|"))


def filled(text: str, *parts: str, begin: str = BEGIN) -> str:
    """`text` with what lies between its `begin` and END marks replaced, in order."""
    before, *places = text.split(begin)
    assert len(places) == len(parts), f"{len(places)} places for {len(parts)} tables"
    rest = [place.split(END, 1)[1] for place in places]
    return before + "".join(f"{begin}\n{part}{END}{after}" for part, after in zip(parts, rest, strict=True))


def page() -> str:
    """The text that docs/benchmarks.md should have."""
    return filled(PAGE.read_text(), *(make(results()) for make in TABLES))


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE.relative_to(PROJECT))

"""Writes the tables of docs/benchmarks.md from docs/benchmarks/*.json: `python -m benchmarks.tables`."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- written by benchmarks/tables.py -->", "<!-- end -->"

Results = dict[str, dict[str, Any]]
"""Name of a measurement -> what a benchmark wrote."""


def results(folder: Path) -> Results:
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def table(columns: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "Not measured yet.\n"
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (columns, ["---"] * len(columns), *rows))


def each_variant(found: Results, benchmark: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(what to call it, the result it belongs to, the variant)."""
    return [
        (f"{name}: {called(result, variant)}", result, variant)
        for name, result in found.items()
        if result["benchmark"] == benchmark
        for variant in result["variants"]
    ]


def called(result: dict[str, Any], variant: dict[str, Any]) -> str:
    flags = f"{result['flags']} {variant['flags']}".strip()
    return f"{f'`{flags}`' if flags else 'no flags'}, {variant['precision']}"


def spread(side: dict[str, Any]) -> str:
    """Median, and the smallest and largest round."""
    values = [run if isinstance(run, float) else run["images_per_second"] for run in side["runs"]]
    return f"{side['images_per_second']:,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def throughput(found: Results) -> str:
    columns = ["measurement", "standard loop", "this trainer", "upper bound", "speed-up", "overhead"]
    return table(
        columns,
        [
            [
                name,
                *(spread(side) for side in (result["classic"], variant["ours"], variant["bare"])),
                f"{variant['ours_over_classic']:.2f}",
                f"{1 - variant['ours_over_bare']:.1%}",
            ]
            for name, result, variant in each_variant(found, "train_throughput")
        ],
    )


def costs(found: Results) -> str:
    """Warm-up and memory: the largest of the rounds."""
    sides = ["standard loop", "this trainer", "upper bound"]
    columns = ["measurement", *(f"{what}, {side}" for what in ("warm-up s", "host", "GPU") for side in sides)]
    keys, rows = ("peak_host_bytes", "peak_device_bytes"), []
    for name, result, variant in each_variant(found, "train_throughput"):
        runs = [side["runs"] for side in (result["classic"], variant["ours"], variant["bare"])]
        warmups = [f"{max(run['warmup_seconds'] for run in some):.1f}" for some in runs]
        peaks = [size(max(run[key] or 0 for run in some)) for key in keys for some in runs]
        rows.append([name, *warmups, *peaks])
    return table(columns, rows)


def size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count else ""


def scaling(found: Results) -> str:
    columns = ["measurement", "training images", "images/s", "seconds per epoch", "seconds per 1,000 images", "host"]
    return table(
        columns,
        [
            [
                name,
                f"{part['train_images']:,}",
                spread(part),
                f"{part['epoch_seconds']:.2f}",
                f"{part['seconds_per_1000_images']:.4f}",
                size(max(run["peak_host_bytes"] for run in part["runs"])),
            ]
            for name, _, variant in each_variant(found, "train_scaling")
            for part in variant["sizes"]
        ],
    )


def input_pipeline(found: Results) -> str:
    columns = ["measurement", "crop", "batched", "per image, Pillow", "per image, v2 on tensors"]
    columns += ["batched / Pillow", "batched / v2", "batched on the GPU"]
    rows = []
    for name, result in found.items():
        for crop, sides in result["crops"].items() if result["benchmark"] == "input_pipeline" else ():
            on_device = [spread(side) for key, side in sides.items() if key.startswith("batched on ")]
            rows.append(
                [
                    name,
                    crop,
                    *(spread(sides[key]) for key in ("batched", "pil", "v2")),
                    *(f"{sides[key]:.1f}" for key in ("batched_over_pil", "batched_over_v2")),
                    *(on_device or [""]),
                ]
            )
    return table(columns, rows)


def middle(values: list[float], form: str = ",.0f") -> str:
    """Median, and the smallest and largest round."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def of_kind(found: Results, benchmark: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, result) for name, result in found.items() if result["benchmark"] == benchmark]


def serving(found: Results) -> str:
    """Latency: the median of the rounds' own percentiles. Busy and errors: of all rounds together."""
    percents = ("p50", "p95", "p99")
    columns = ["measurement", "clients", "MB", "side", "answers/s", "/ plain", "processor ms"]
    columns += [*(f"{percent} ms" for percent in percents), "p50 / plain", "busy", "errors"]
    rows = []
    for name, result in of_kind(found, "serving"):
        for cell in result["cells"]:
            for side, measured in cell["sides"].items():
                runs, cost = measured["runs"], processor_ms(measured["runs"])
                rows.append(
                    [
                        name,
                        str(cell["clients"]),
                        f"{cell['megabytes']:g}",
                        side,
                        middle([run["requests_per_second"] for run in runs], ",.1f"),
                        times(measured["rate_over_plain"]),
                        f"{cost:.1f}" if cost else "",
                        *(latencies(runs, percent) for percent in percents),
                        times(measured["p50_over_plain"]),
                        str(sum(run["busy"] for run in runs)),
                        errors(runs),
                    ]
                )
    return table(columns, rows)


def times(ratio: float | None) -> str:
    return f"{ratio:.2f}" if ratio else ""


def processor_ms(runs: list[dict[str, Any]]) -> float | None:
    """Of the server, per answer: median of the rounds that had one."""
    costs = [1000 * run["server_processor_seconds"] / run["answered"] for run in runs if run["answered"]]
    return median(costs) if costs else None


def latencies(runs: list[dict[str, Any]], percent: str) -> str:
    values = [run["latency"][percent] for run in runs if run["latency"]]
    return f"{median(values):,.0f}" if values else ""


def errors(runs: list[dict[str, Any]]) -> str:
    """ "0", or how many of each kind."""
    kinds: Counter[str] = Counter()
    for run in runs:
        kinds.update(run["errors"])
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "0"


def start(found: Results) -> str:
    keys = (("seconds", 1, ".2f"), ("processor_seconds", 1, ".2f"), ("resident_bytes", 1e6, ",.0f"))
    units = ("s", "processor s", "memory MB")
    columns = ["measurement", *(text for unit in units for text in (f"app, {unit}", f"bare, {unit}", "app / bare"))]
    rows = []
    for name, result in of_kind(found, "start"):
        cells = [name]
        for key, unit, form in keys:
            values = [[run[key] / unit for run in result[side]["runs"]] for side in ("app", "bare")]
            cells += [*(middle(each, form) for each in values), f"{result[f'{key}_ratio']:.2f}"]
        rows.append(cells)
    return table(columns, rows)


def processes(found: Results) -> str:
    rows = []
    for name, result in of_kind(found, "processes"):
        of_each = [middle([run["requests_per_second"] for run in result["runs"][side]]) for side in ("one", "two")]
        rows.append([name, *of_each, f"{result['two_over_one']:.2f}"])
    return table(["measurement", "one process, answers/s", "two processes, answers/s", "two / one"], rows)


def soak(found: Results) -> str:
    columns = ["measurement", "side", "predictions", "memory MB", "open files", "stored images", "stored MB"]
    rows = []
    for name, result in of_kind(found, "soak"):
        for side, measured in result["sides"].items():
            samples = measured["samples"]
            step = max(1, (len(samples) - 1) // 10)  # ten rows show the course; all samples are in the file
            for each in samples[::step]:
                rows.append(
                    [
                        name,
                        side,
                        f"{each['predictions']:,}",
                        f"{each['resident_bytes'] / 1e6:,.0f}",
                        str(each["open_files"]),
                        f"{each['upload_files']:,}",
                        f"{each['upload_bytes'] / 1e6:,.1f}",
                    ]
                )
    return table(columns, rows)


def growth(found: Results) -> str:
    """What a soak test came to, a row per side."""
    columns = ["measurement", "side", "answers/s", "busy", "errors", "last half, per 1,000 predictions: memory MB"]
    columns += ["open files", "stored images"]
    rows = []
    for name, result in of_kind(found, "soak"):
        for side, measured in result["sides"].items():
            per, asked = measured["last_half_per_1000"], measured["samples"][-1]["predictions"]
            slopes = [f"{per['resident_bytes'] / 1e6:+.2f}", f"{per['open_files']:+.2f}", f"{per['upload_files']:+.0f}"]
            answered = asked - measured["busy"] - sum(measured["errors"].values())
            speed = f"{answered / measured['seconds']:.1f}"
            rows.append([name, side, speed, str(measured["busy"]), errors([measured]), *slopes])
    return table(columns, rows)


def threshold(found: Results) -> str:
    """A row per category of images, and their mean."""
    rows, columns = [], ["measurement", "images"]
    for name, result in of_kind(found, "threshold"):
        of_each = list(result["thresholds"])
        columns = ["measurement", "images", *of_each]
        below = {**result["below"], f"**mean of {len(result['below'])} categories**": result["mean_below"]}
        below |= {"val images": result["val_below"]}
        rows += [[name, kind, *(f"{shares[score]:.1%}" for score in of_each)] for kind, shares in below.items()]
        rows.append([name, "*threshold*", *(f"{result['thresholds'][score]:.3f}" for score in of_each)])
    return table(columns, rows)


def short(commit: str | None) -> str:
    """Twelve digits, and whether files differed from it."""
    digits, dirty, _ = (commit or "unknown").partition("-dirty")
    return digits[:12] + dirty


def machines(found: Results) -> str:
    columns = ["measurement", "device", "CPU, cores", "load", "software", "settings", "rounds", "date", "commit"]
    rows = []
    for name, result in found.items():
        here, versions = result["machine"], result["machine"]["versions"]
        device = result.get("device") or result["variants"][0]["device"]
        software = ", ".join(f"{package} {version}" for package, version in versions.items())
        commit, date = short(here["git_commit"]), here["started"][:10]
        settings = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in result["settings"].items())
        rounds = str(result["rounds"])
        load = f"{here['load_average']:.1f}"
        rows.append([name, device, f"{here['cpu']}, {here['cores']}", load, software, settings, rounds, date, commit])
    return table(columns, rows)


TABLES: list[Callable[[Results], str]] = [
    throughput,
    costs,
    scaling,
    input_pipeline,
    serving,
    processes,
    start,
    soak,
    growth,
    threshold,
    machines,
]


def of(found: Results) -> str:
    """The tables that have something to say about these results."""
    written = (make(found) for make in TABLES)
    return "\n".join(text for text in written if text.startswith("|"))


def filled(text: str, *parts: str, begin: str = BEGIN) -> str:
    """`text` with what lies between its `begin` and END marks replaced, in order."""
    before, *places = text.split(begin)
    assert len(places) == len(parts), f"{len(places)} places for {len(parts)} tables"
    return before + "".join(
        f"{begin}\n{part}{END}{place.split(END, 1)[1]}" for part, place in zip(parts, places, strict=True)
    )


def page() -> str:
    """The text that docs/benchmarks.md should have."""
    found = results(PAGE.with_suffix(""))
    return filled(PAGE.read_text(), *(make(found) for make in TABLES))


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE.relative_to(PROJECT))

"""Writes the tables of docs/benchmarks.md from benchmarks/results/*.json: `python -m benchmarks.tables`."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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

Rows = Iterator[dict[str, str]]
"""Column -> cell, of the rows that a result has in a table."""


def results() -> Results:
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def table(columns: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "Not measured yet.\n"
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (columns, ["---"] * len(columns), *rows))


def of_kind(found: Results, benchmark: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, result) for name, result in found.items() if result["benchmark"] == benchmark]


def of_rows(benchmark: str, make: Callable[[dict[str, Any]], Rows]) -> Callable[[Results], str]:
    """What writes the table of one benchmark: `make` gives the rows of a result."""

    def text(found: Results) -> str:
        rows = [{"measurement": name} | row for name, result in of_kind(found, benchmark) for row in make(result)]
        return table(list(rows[0]) if rows else [], [list(row.values()) for row in rows])

    return text


def of_runs(runs: Iterable[Any], key: str) -> list[float]:
    """The value of every round; a run that is a number is the value itself."""
    return [run if isinstance(run, float) else run[key] for run in runs]


def middle(runs: Iterable[Any], key: str = "images_per_second", form: str = ",.0f", unit: float = 1) -> str:
    """Median, and the smallest and largest round."""
    values = [value / unit for value in of_runs(runs, key)]
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratio(runs: list[Any], others: list[Any], key: str = "images_per_second") -> float:
    """The median of the rounds' own ratios, so that a machine whose speed drifts favors neither; 0 without any."""
    pairs = zip(of_runs(runs, key), of_runs(others, key), strict=False)  # the last round may be half done
    return median([value / other for value, other in pairs if value and other] or [0])


def abreast(cell: Callable[[list[Any]], str], sides: list[list[Any]]) -> str:
    return " / ".join(map(cell, sides))


def highest_gb(sides: list[list[dict[str, Any]]], key: str) -> str:
    """Of each side's rounds; nothing where none was measured."""
    highest = [max(run[key] or 0 for run in runs) / 1e9 for runs in sides]
    return " / ".join(f"{each:.2f}" for each in highest) if any(highest) else ""


def titled(result: dict[str, Any], variant: dict[str, Any]) -> dict[str, str]:
    flags = f"{result['flags']} {variant['flags']}".strip()
    return {"flags": f"{f'`{flags}`' if flags else 'none'}, {variant['precision']}"}


def throughput(result: dict[str, Any]) -> Rows:
    for variant in result["variants"]:
        classic, ours, bare = sides = [side["runs"] for side in (result["classic"], variant["ours"], variant["bare"])]
        yield titled(result, variant) | {
            "standard loop": middle(classic),
            "this trainer": middle(ours),
            "upper bound": middle(bare),
            "speed-up": f"{ratio(ours, classic):.2f}",
            "overhead": f"{1 - ratio(ours, bare):.1%}",
            "warm-up, s": abreast(lambda runs: f"{max(of_runs(runs, 'warmup_seconds')):.1f}", sides),
            "host memory, GB": highest_gb(sides, "peak_host_bytes"),
            "GPU memory, GB": highest_gb(sides, "peak_device_bytes"),
        }


def scaling(result: dict[str, Any]) -> Rows:
    for variant in result["variants"]:
        for size in variant["sizes"]:
            rate = median(of_runs(size["runs"], "images_per_second"))
            yield titled(result, variant) | {
                "training images": f"{size['train_images']:,}",
                "images/s": middle(size["runs"]),
                "seconds per epoch": f"{size['epoch_images'] / rate:.2f}",
                "seconds per 1,000 images": f"{1000 / rate:.4f}",
                "host memory, GB": highest_gb([size["runs"]], "peak_host_bytes"),
            }


def input_pipeline(result: dict[str, Any]) -> Rows:
    for crop, sides in result["crops"].items():
        batched, pil, v2 = (sides[key]["runs"] for key in ("batched", "pil", "v2"))
        on_gpu = [middle(side["runs"]) for key, side in sides.items() if key.startswith("batched on ")]
        yield {
            "crop": crop,
            "batched": middle(batched),
            "per image, Pillow": middle(pil),
            "per image, v2 on tensors": middle(v2),
            "batched / Pillow": f"{ratio(batched, pil):.1f}",
            "batched / v2": f"{ratio(batched, v2):.1f}",
            "batched on the GPU": "".join(on_gpu),
        }


def wait(runs: list[dict[str, Any]], percent: str) -> str:
    """The median of the rounds' own percentiles."""
    values = [run["latency"][percent] for run in runs if run["latency"]]
    return f"{median(values):,.0f}" if values else "-"


def processor_ms(runs: list[dict[str, Any]]) -> str:
    """Of the server, per answer."""
    return f"{median(1000 * run['server_processor_seconds'] / max(1, run['answered']) for run in runs):.0f}"


def failures(runs: list[dict[str, Any]]) -> str:
    """ "0", or how many of each kind, of all rounds together."""
    kinds = Counter(busy=sum(run["busy"] for run in runs))
    for run in runs:
        kinds.update(run["errors"])
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count) or "0"


def serving(result: dict[str, Any]) -> Rows:
    rate = "requests_per_second"
    for cell in result["cells"]:
        runs = {side: found["runs"] for side, found in cell["sides"].items()}
        sides = list(runs.values())
        yield (
            {"clients": str(cell["clients"]), "MB": f"{cell['megabytes']:g}"}
            | {f"{side}, answers/s": middle(each, rate, ",.1f") for side, each in runs.items()}
            | {f"{side} / plain": f"{ratio(runs[side], runs['plain'], rate):.2f}" for side in ("rest", "page")}
            | {f"{name}, ms": abreast(lambda each, name=name: wait(each, name), sides) for name in ("p50", "p99")}
            | {"processor ms": abreast(processor_ms, sides), "busy or errors": abreast(failures, sides)}
        )


def processes(result: dict[str, Any]) -> Rows:
    one, two, rate = result["runs"]["one"], result["runs"]["two"], "requests_per_second"
    both = {"one process, answers/s": middle(one, rate), "two processes, answers/s": middle(two, rate)}
    yield both | {"two / one": f"{ratio(two, one, rate):.2f}"}


def start(result: dict[str, Any]) -> Rows:
    app, bare = result["app"]["runs"], result["bare"]["runs"]
    for what, key, form, unit in (
        ("seconds to the first page", "seconds", ".2f", 1),
        ("processor seconds", "processor_seconds", ".2f", 1),
        ("memory, MB", "resident_bytes", ",.0f", 1e6),
    ):
        both = {"app": middle(app, key, form, unit), "bare page": middle(bare, key, form, unit)}
        yield {"": what} | both | {"app / bare page": f"{ratio(app, bare, key):.2f}"}


def soak(result: dict[str, Any]) -> Rows:
    """The samples at the beginning, after each quarter and at the end; growth is that of the last half."""
    for side, measured in result["sides"].items():
        samples = measured["samples"]
        shown = [samples[len(samples[1:]) * quarter // 4] for quarter in range(5)]
        answered = samples[-1]["predictions"] - measured["busy"] - sum(measured["errors"].values())
        yield {
            "side": side,
            "answers": f"{answered:,}",
            "answers/s": f"{answered / measured['seconds']:.1f}",
            "busy or errors": failures([measured]),
            "memory, MB": abreast(lambda each: f"{each['resident_bytes'] / 1e6:,.0f}", shown),
            "open files": abreast(lambda each: f"{each['open_files']:,}", shown),
            "stored images": abreast(lambda each: f"{each['upload_files']:,}", shown),
            "memory growth, MB per 1,000": f"{measured['last_half_per_1000']['resident_bytes'] / 1e6:+.2f}",
        }


def threshold(result: dict[str, Any]) -> Rows:
    """A row per category of images, and their mean."""
    below = {**result["below"], f"**mean of {len(result['below'])} categories**": result["mean_below"]}
    for kind, shares in (below | {"val images": result["val_below"]}).items():
        yield {"images": kind} | {score: f"{share:.1%}" for score, share in shares.items()}
    yield {"images": "*threshold*"} | {score: f"{limit:.3f}" for score, limit in result["thresholds"].items()}


def short(commit: str | None) -> str:
    """Twelve digits, and whether files differed from it."""
    digits, dirty, _ = (commit or "unknown").partition("-dirty")
    return digits[:12] + dirty


SHOWN = ("python", "torch", "gradio", "onnxruntime")
"""Packages whose versions fit into a table; a result has more."""


def machines(found: Results) -> str:
    rows = []
    for name, result in found.items():
        here = result["machine"]
        device = result.get("device") or result["variants"][0]["device"]
        versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items() if name in SHOWN)
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
    of_rows("train_throughput", throughput),
    of_rows("train_scaling", scaling),
    of_rows("input_pipeline", input_pipeline),
    of_rows("serving", serving),
    of_rows("processes", processes),
    of_rows("start", start),
    of_rows("soak", soak),
    of_rows("threshold", threshold),
    own_images,
    machines,
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

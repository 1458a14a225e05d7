"""Seconds from the command to the first page, and resident memory then: the page against a bare one with PyTorch.

    python -m benchmarks.start --output benchmarks/results/start-NAME.json

    app     python app.py with the bundled model
    bare    benchmarks/bare_page.py: one line of text in gr.Blocks, and `import torch`

In turn, each in a process of its own. Memory is read when the page was served and nothing happened for two seconds.
"""

import sys
import tempfile
import time

from benchmarks import machine, tables
from benchmarks.server import app_command, environment, free_port, running

SIDES = ("app", "bare")
SETTLE_SECONDS = 2

PARSER = machine.parser(__doc__, repeats=5)


def start(side: str) -> dict[str, float]:
    port = free_port()
    command = app_command(port) if side == "app" else [sys.executable, "-m", "benchmarks.bare_page", str(port)]
    with tempfile.TemporaryDirectory() as uploads, running(command, port, environment(uploads)) as server:
        used = server.processor_seconds()
        time.sleep(SETTLE_SECONDS)
        memory = server.resident_bytes()
        return {"seconds": server.start_seconds, "processor_seconds": used, "resident_bytes": memory}


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    result = machine.describe("start", {"settle_seconds": SETTLE_SECONDS}, *machine.SERVING)
    result |= {side: {"runs": []} for side in SIDES}
    for number in range(args.repeats):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            result[side]["runs"].append(start(side))
        for key in ("seconds", "processor_seconds", "resident_bytes"):
            values = ([run[key] for run in result[side]["runs"]] for side in SIDES)
            result[f"{key}_ratio"] = machine.ratio(*values)
        result["rounds"] = number + 1
        machine.write(result, args)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()

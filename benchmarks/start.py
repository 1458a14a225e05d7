"""Seconds from the command to the first page, and resident memory then: the page against a bare one with PyTorch.

    python -m benchmarks.start --output benchmarks/results/start-NAME.json

    app     python app.py with the bundled model
    bare    one line of text in gr.Blocks, and `import torch`

In turn, each in a process of its own. Memory is read when the page was served and nothing happened for two seconds.
"""

import time

from benchmarks import machine, tables
from benchmarks.server import APP, running

BARE = """
import sys, gradio, torch
with gradio.Blocks() as page:
    gradio.Markdown("A page.")
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]))
"""
SIDES = {"app": APP, "bare": ("-c", BARE)}
SETTLE_SECONDS = 2

PARSER = machine.parser(__doc__, repeats=5)


def start(program: tuple[str, ...]) -> dict[str, float]:
    with running(*program) as server:
        used = server.processor_seconds()
        time.sleep(SETTLE_SECONDS)
        memory = server.resident_bytes()
        return {"seconds": server.start_seconds, "processor_seconds": used, "resident_bytes": memory}


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    result = machine.describe("start", {"settle_seconds": SETTLE_SECONDS}, *machine.SERVING)
    result |= {side: {"runs": []} for side in SIDES}
    for number, side in machine.in_turn(list(SIDES), args.repeats):
        result[side]["runs"].append(start(SIDES[side]))
        result["rounds"] = number
        machine.write(result, args)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()

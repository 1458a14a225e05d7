"""The one kind of command line that this project's programs have."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any


class Parser(argparse.ArgumentParser):
    """Answers a mistake with one sentence and exit code 2, an unknown flag with the nearest one."""

    def __init__(self, **options: Any):
        self.flags: list[str] = []
        super().__init__(allow_abbrev=False, **options)

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        action = super().add_argument(*names, **options)
        self.flags += action.option_strings
        return action

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        words = [word.partition("=")[0] for word in (sys.argv[1:] if args is None else args)]
        unknown = [word for word in words if word.startswith("--") and word not in (*self.flags, "--")]
        if not unknown:  # told before what is required is missed
            parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            first = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
            near = difflib.get_close_matches(first, self.flags, 1)
            self.error(f"{first} is unknown here" + (f"; did you mean {near[0]}?" if near else ""))
        return parsed

    def error(self, message: str) -> None:
        self.exit(2, f"Error: {message} (see --help)\n")

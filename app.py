"""Serve the page: `python app.py`, then open http://127.0.0.1:7860. Hugging Face Spaces runs this file too."""

import argparse
import importlib
import os
import signal
import sys
import threading
from pathlib import Path


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="app.py", description="A page that classifies pictures with a network trained on CIFAR-10.")
    parser.add_argument(
        "--model",
        default=os.environ.get("MODEL_REPO") or None,
        metavar="FOLDER_OR_REPO",
        help="an exported artifact, or USER/REPO on the Hugging Face Hub (default: $MODEL_REPO, else the bundled one)",
    )
    parser.add_argument(
        "--revision", metavar="REV", help="branch, tag or commit of it (default: $MODEL_REVISION, else main)"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="holds cifar-10-batches-py or cifar-10-hub, for all test images, not just samples "
        "(default: $CIFAR10_DIR, else data)",
    )
    parser.add_argument("--host", help="address to listen on (default: $GRADIO_SERVER_NAME, else 127.0.0.1)")
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("GRADIO_SERVER_PORT"),  # gradio reads it too, but answers a bad one with a traceback
        help="port to listen on (default: $GRADIO_SERVER_PORT, else the first free one from 7860)",
    )
    args = parser.parse_args(argv)
    args.revision = args.revision or None
    on_hub = args.model and not os.path.isdir(args.model)
    if args.revision is None and on_hub and os.environ.get("MODEL_REPO") in (None, "", args.model):
        args.revision = os.environ.get("MODEL_REVISION") or None  # not of another repository than MODEL_REPO
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)

    # The Hub's client reads these when it is imported. The files are small: plain HTTP does, without bars.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    # Imported here, not above: gradio takes seconds, which --help and a mistyped flag need not wait for.
    from model.artifact import ArtifactError
    from model.cifar10 import data_dir
    from model.fallback import load_or_fall_back
    from model.hub import is_repo_id

    if args.model and is_repo_id(args.model) and not os.path.isdir(args.model):
        # gradio is imported while the Hub is waited for
        threading.Thread(target=importlib.import_module, args=("ui.serve",), daemon=True).start()
    try:
        classifier, notice = load_or_fall_back(args.model, args.revision)
    except (ArtifactError, ValueError) as error:
        return _fail(str(error))
    if notice:
        print(f"app.py: {notice}", file=sys.stderr, flush=True)

    try:
        from ui.page import build_page  # gradio looks for its temporary folder at import
        from ui.serve import launch
        from ui.uploads import use_own_folder

        use_own_folder()
        page = build_page(classifier, data_dir(args.data_dir), notice)
        address = launch(page, args.host, args.port)
    except OSError as error:
        where = " and ".join(f"--{name} {value}" for name, value in (("host", args.host), ("port", args.port)) if value)
        reason = " ".join(str(error).split())
        return _fail(
            f"cannot serve on {where or 'any port'} ({reason}): it takes an address of this machine, a free port and a "
            "temporary folder that can be written"
        )
    print(f"Serving the model ({classifier.source}) at {address}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the uploads go, too
    page.block_thread()
    return 0


def _fail(message: str) -> int:
    print(f"app.py: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

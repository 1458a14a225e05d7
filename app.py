"""Serve the page: `python app.py`, then open http://127.0.0.1:7860. Hugging Face Spaces runs this file too."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("Error: Python 3.11 or newer is needed; this is {}.{}".format(*sys.version_info))

import argparse
import importlib
import os
import threading
from pathlib import Path


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def tidy_environment() -> None:
    """An empty variable is an unset one (Compose passes those as ""), and blanks around a value mean nothing: here, in
    gradio and in the Hub's client, which read theirs when they are imported."""
    ours = ("MODEL_REPO", "MODEL_REVISION", "CIFAR10_DIR", "PORT", "FORWARDED_ALLOW_IPS", "FRAME_ANCESTORS")
    for name, value in list(os.environ.items()):
        if name in ours or name.startswith(("GRADIO_", "HF_")):
            os.environ[name] = value.strip()
            if not value.strip():
                del os.environ[name]
    # The files on the Hub are small: plain HTTP does, without bars.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def parse(argv: list[str] | None) -> argparse.Namespace:
    from model.command_line import Parser  # not above: importing this file does no work

    parser = Parser(
        prog="app.py",
        description="Serve a web page and a REST API that classify images with a network trained on CIFAR-10.",
    )
    parser.add_argument(
        "--model",
        default=os.environ.get("MODEL_REPO"),
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
    parser.add_argument(
        "--host",
        default=os.environ.get("GRADIO_SERVER_NAME"),
        help="address to listen on (default: $GRADIO_SERVER_NAME, else 127.0.0.1)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("GRADIO_SERVER_PORT", os.environ.get("PORT")),
        help="port to listen on (default: $GRADIO_SERVER_PORT, else $PORT, else the first free one from 7860)",
    )
    parser.add_argument(
        "--root-path",
        default=os.environ.get("GRADIO_ROOT_PATH", ""),
        metavar="PATH",
        help="where a proxy shows the page, if it does not say so in X-Forwarded-Prefix (default: $GRADIO_ROOT_PATH)",
    )
    args = parser.parse_args(argv)
    args.model, args.revision = args.model or None, args.revision or None
    on_hub = args.model and not os.path.isdir(args.model)
    if args.revision is None and on_hub and os.environ.get("MODEL_REPO") in (None, args.model):
        args.revision = os.environ.get("MODEL_REVISION")  # not of another repository than MODEL_REPO
    return args


def main(argv: list[str] | None = None) -> int:
    tidy_environment()
    args = parse(argv)

    # Imported here, not above: gradio takes seconds, which --help and a mistyped flag need not wait for.
    from model.artifact import ArtifactError
    from model.cifar10 import data_dir
    from model.fallback import load_or_fall_back
    from model.hub import is_repo_id

    if args.model and is_repo_id(args.model) and not os.path.isdir(args.model):
        threading.Thread(target=_import_server, daemon=True).start()  # while the Hub is waited for
    try:
        classifier, notice = load_or_fall_back(args.model, args.revision)
    except (ArtifactError, ValueError) as error:
        return _fail(str(error))
    if notice:
        print(f"app.py: {notice}", file=sys.stderr, flush=True)

    problem = _import_server()
    if problem:
        return _fail(problem)
    from server.headers import Proxy
    from server.run import serve

    # A Space is reached through the Hub's proxy alone.
    trusted = os.environ.get("FORWARDED_ALLOW_IPS", "*" if os.environ.get("SPACE_ID") else "127.0.0.1,::1")
    try:
        proxy = Proxy(trusted.split(","), args.root_path, os.environ.get("FRAME_ANCESTORS", "").split())
    except ValueError as error:
        return _fail(str(error))
    try:
        serve(classifier, data_dir(args.data_dir), notice, args.host, args.port, proxy)
    except OSError as error:
        where = " and ".join(f"--{name} {value}" for name, value in (("host", args.host), ("port", args.port)) if value)
        reason = " ".join(str(error).split())
        return _fail(
            f"cannot serve on {where or 'any port'} ({reason}): it takes an address of this machine, a free port and a "
            "temporary folder that can be written"
        )


def _import_server() -> str | None:
    """Imports gradio and all that serves; a sentence where it cannot be, for a proxy variable that its HTTP client does
    not understand."""
    try:
        importlib.import_module("server.run")
    except Exception as error:  # httpx has several for them
        proxies = sorted(name for name, value in os.environ.items() if name.lower().endswith("_proxy") and value)
        if not proxies:
            raise
        return f"the environment names proxies that cannot be used ({', '.join(proxies)}): {error}"
    return None


def _fail(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

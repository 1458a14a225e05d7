"""Imports point one way. Checked in fresh interpreters, because any test may have imported anything before."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


def imported_by(statement: str) -> set[str]:
    """Top-level names in sys.modules after `statement`, in a new interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    answer = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.split())


def test_using_the_model_needs_neither_torch_nor_gradio_nor_lightning():
    names = sorted(path.stem for path in (PROJECT / "model").glob("*.py") if path.stem not in ("__init__", "resnet"))
    found = imported_by("import model, " + ", ".join(f"model.{name}" for name in names))
    assert not found & {"torch", "torchvision", "gradio", "lightning", "trainer", "ui", "server"}


def test_the_app_needs_neither_torch_nor_lightning_nor_matplotlib():
    found = imported_by("import app, server.run")
    assert not found & {"torch", "torchvision", "lightning", "pytorch_lightning", "trainer", "matplotlib"}


def test_the_trainer_never_imports_gradio():
    names = sorted(path.stem for path in (PROJECT / "trainer").glob("*.py") if path.stem != "__init__")
    found = imported_by("import " + ", ".join(f"trainer.{name}" for name in names))
    assert "lightning" in found and not found & {"gradio", "fastapi", "ui", "server", "app"}


def test_help_and_flag_errors_come_without_torch():
    heavy = {"torch", "torchvision", "lightning", "gradio", "pyarrow"}
    assert not imported_by("import trainer.__main__") & heavy


ALLOWED = {
    "model": set(),
    "trainer": {"model"},
    "ui": {"model"},
    "server": {"model", "ui"},
    "app.py": {"model", "server"},
    "benchmarks": {"model", "trainer", "tests"},
    "experiments": {"model", "trainer", "benchmarks"},
}


@pytest.mark.parametrize("part", ALLOWED)
def test_no_import_statement_points_the_other_way(part):
    ours = {"model", "trainer", "ui", "server", "app", "tests", "benchmarks", "experiments"}
    own = part.removesuffix(".py")
    for path in [PROJECT / part] if part.endswith(".py") else (PROJECT / part).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            used = {name.split(".")[0] for name in names} & ours
            assert used <= ALLOWED[part] | {own}, f"{path.relative_to(PROJECT)} imports {used}"

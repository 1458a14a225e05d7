"""ONNX Runtime (https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md) reports nothing about our users."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


def use_the_model(home: Path, seconds: int = 0, before: tuple[str, ...] = (), **environment: str) -> None:
    """In a process without the variables by which ONNX Runtime recognizes a CI machine, on which it is silent."""
    code = f"from model import Classifier; Classifier.load(); import time; time.sleep({seconds})"
    bare = {"HOME": str(home), "PATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*before, sys.executable, "-c", code]
    subprocess.run(command, cwd=PROJECT, env=bare | environment, check=True, timeout=120)


@pytest.mark.parametrize("environment", [{}, {"ORT_DISABLE_TELEMETRY": ""}], ids=["unset", "empty"])
def test_no_device_id_and_no_database_are_written_to_the_home_folder(tmp_path, environment):
    use_the_model(tmp_path, **environment)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the files lie in other folders")
def test_without_the_variable_they_would_be_there(tmp_path):
    """What makes the test above able to fail; 0 is a user's wish, which stays."""
    use_the_model(tmp_path, ORT_DISABLE_TELEMETRY="0")
    if not list(tmp_path.rglob("*")):
        pytest.skip("this version of ONNX Runtime has no telemetry here")


@pytest.mark.slow
def test_no_foreign_host_is_asked(tmp_path):
    strace, log = shutil.which("strace"), tmp_path / "log"
    trace = (str(strace), "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(log))
    if strace is None or subprocess.run([*trace, sys.executable, "-c", ""], capture_output=True).returncode:
        pytest.skip("strace is not installed, or not allowed")
    use_the_model(tmp_path, seconds=15, before=trace)  # the question for its host comes after 8 seconds
    calls = re.findall(r"inet6?_(?:addr|pton)\([^)]*\)", log.read_text())
    assert [call for call in calls if '"127.' not in call and '"::1"' not in call] == []

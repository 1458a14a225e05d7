"""README and docs: links lead somewhere, commands are ones that the programs take, snippets run.

Other tests run what docs/api.md (test_ui_about.py) and the proxies of docs/deploy.md (test_proxy.py) show.
"""

import importlib
import re
import shlex
import subprocess
from argparse import ArgumentParser
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app import parse
from tests.serving import ROOT, running_app
from trainer.__main__ import parsers
from trainer.config import TrainConfig, configure

PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").glob("*.md"))
}
PLANS = sorted((ROOT / "experiments" / "plans").glob("*.sh"))
MEASURING = "input_pipeline own_images processes serving soak start threshold train_throughput".split()


def fenced(text: str, kind: str) -> list[str]:
    return re.findall(rf"^ *```{kind}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[name].read_text()):
        path, _, anchor = target.partition("#")
        page = (PAGES[name].parent / path).resolve() if path else PAGES[name]
        assert page.exists(), f"{name} links to {target}"
        assert not anchor or anchor in anchors(page), f"{name} links to {target}"


# Commands


@cache
def all_parsers() -> dict[str, ArgumentParser]:
    """What stands after `python -m` -> its parser."""
    found = {f"trainer {name}".strip(): parser for name, parser in parsers().items()}
    return found | {f"benchmarks.{name}": importlib.import_module(f"benchmarks.{name}").PARSER for name in MEASURING}


def check(module: str, words: list[str]) -> None:
    """Ends the test unless there is such a program, which takes these words."""
    name = f"{module} {words[0]}" if words and f"{module} {words[0]}" in all_parsers() else module
    if name not in all_parsers():
        assert importlib.util.find_spec(module), module
        return
    given = vars(all_parsers()[name].parse_args(words[1:] if name != module else words))
    if name == "trainer":
        settings = {field.name for field in fields(TrainConfig)} - {"recipe"}
        configure(given["recipe"], {key: value for key, value in given.items() if key in settings})
    if name == "benchmarks.train_throughput":
        for variant in given["variant"] or [""]:
            check("trainer", [*given["flags"], *shlex.split(variant)])


def shell(text: str) -> str:
    """All fenced commands, one per line, and those in the middle of a sentence."""
    blocks = re.sub(r" *\\\n *", " ", "".join(fenced(text, "sh")))
    return blocks + "\n".join(re.findall(r"`((?:python|pytest|bash) [^`]+)`", text.replace("\n", " ")))


def words_of(command: str) -> list[str]:
    """A variable is a number after a flag, and else nothing."""
    command = re.sub(r"(--[\w-]+ )(\$\w+|\{\})", r"\g<1>2", re.split(r" #|[;|&>)]", command)[0])
    return [word for word in shlex.split(re.sub(r" \$\w+", "", command)) if word != "--help"]


@pytest.mark.parametrize("name", PAGES)
def test_the_programs_take_the_commands(name):
    text = shell(PAGES[name].read_text())
    for module, rest in re.findall(r"(?:python|torchrun .*?) -m ([\w.]+)(.*)", text):
        check(module, words_of(rest))
    for rest in re.findall(r"python app\.py(.*)", text):
        parse(words_of(rest))
    for plan, rest in re.findall(r"bash (experiments/plans/\S+) [\w/$-]+(.*)", text):
        assert ROOT / plan in PLANS
        check("trainer", words_of(rest))


@pytest.mark.parametrize("plan", PLANS, ids=lambda path: path.stem)
def test_the_trainer_takes_the_runs_of_a_plan_and_a_failure_stops_no_other(plan, tmp_path, monkeypatch):
    python = tmp_path / "python"  # notes its flags, and fails
    python.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\nexit 3\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    given = ["--compile", *(["--teacher", "T"] if plan.stem == "distillation" else [])]
    assert subprocess.run(["bash", plan, "out", *given], capture_output=True).returncode
    runs = plan.read_text().split("<<'RUNS'")[1].splitlines()[1:-1]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == len(runs) > 0
    for call, run in zip(calls, runs, strict=True):
        words = call.removeprefix("-m trainer ").split()
        assert " ".join(words).endswith(f"--output-dir out/{run}") and "--resume --" in call and "--compile" in words
        check("trainer", words)


@pytest.mark.parametrize("name", PAGES)
def test_shell_blocks_are_valid_and_name_files_that_exist(name):
    for block in fenced(PAGES[name].read_text(), "sh"):
        assert subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True).stderr == ""
        for path in re.findall(r"(?<!--output )\b((?:docs|assets|requirements)[\w/.-]*\.(?:sh|txt|png))", block):
            assert (ROOT / path).is_file(), path


def test_a_flag_in_a_sentence_is_one_of_some_program():
    known = set(re.findall(r'"(--[\w-]+)"', (ROOT / "app.py").read_text()))
    for parser in all_parsers().values():
        known |= set(re.findall(r"--[a-z][\w-]*", parser.format_help()))
    for name, page in PAGES.items():
        given = set(re.findall(r"`(--[a-z][\w-]*)", page.read_text()))
        assert given <= known, f"{name}: {given - known}"


def test_ci_runs_the_test_command_of_the_readme_at_every_push():
    command = fenced(PAGES["README.md"].read_text(), "sh")[2].strip()
    assert "pytest" in command and f"\n{command}\n" in (ROOT / ".ci" / "run").read_text()
    workflow = yaml.load((ROOT / ".github" / "workflows" / "test.yml").read_text(), yaml.BaseLoader)
    (job,) = workflow["jobs"].values()
    assert "push" in workflow["on"] and [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"


# Snippets


def test_the_python_in_the_readme_runs(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    (code,) = fenced(PAGES["README.md"].read_text(), "python")
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("cat ") and all(line.endswith("%") for line in lines)


def shows(example: Any, answer: Any) -> bool:
    """Whether a shortened example has no other names and types than the answer."""
    if isinstance(example, dict):
        return all(name in answer and shows(item, answer[name]) for name, item in example.items())
    return shows(example[0], answer[0]) if isinstance(example, list) else type(example) is type(answer)


def test_the_readmes_call_and_the_answers_in_the_docs_are_a_servers(tmp_path):
    (curl,) = [block for block in fenced(PAGES["README.md"].read_text(), "sh") if block.startswith("curl")]
    examples = map(yaml.safe_load, fenced(PAGES["docs/api.md"].read_text(), "json"))
    cat = (ROOT / "assets" / "examples" / "cat.png").read_bytes()
    with running_app(tmp_path) as address, httpx.Client(base_url=address, timeout=60) as client:
        call = ["bash", "-c", curl.replace("http://127.0.0.1:7860", address)]
        answers = [yaml.safe_load(subprocess.run(call, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout)]
        answers.append(client.post("/api/predict/batch", files=[("images", cat), ("images", b"")]).json())
        answers.append(client.post("/api/activation-map", files={"image": cat}).json())
        answers.append(client.get("/api/model").json())
    for answer, example in zip(answers, examples, strict=True):
        assert shows(example, answer), example
        if isinstance(answer, list):
            assert answer[1]["error"].startswith(example[1]["error"].removesuffix("..."))

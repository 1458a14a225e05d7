"""README and docs: links lead somewhere, commands are ones that the programs take, snippets run.

Other tests run what docs/api.md (test_ui_about.py) and the proxies of docs/deploy.md (test_proxy.py) show.
"""

import importlib.util
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import yaml

from app import parse
from tests.serving import ROOT, running_app
from trainer.__main__ import parsers

PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}


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
def commands() -> dict[str, Any]:
    """What stands after `python -m` -> its command, where it takes flags."""
    measuring = "input_pipeline processes serving soak start threshold train_throughput".split()
    apps = {f"benchmarks.{name}": importlib.import_module(f"benchmarks.{name}").app for name in measuring}
    found = {name: typer.main.get_command(app) for name, app in apps.items()}
    return found | {f"trainer {name}".strip(): parser for name, parser in parsers().items()}


def options(command: Any) -> set[str]:
    if hasattr(command, "flags"):
        return set(command.flags)
    return {name for given in command.params for name in (*given.opts, *given.secondary_opts)} | {"--help"}


def check(module: str, words: list[str]) -> None:
    """Fails unless there is such a program, which has every flag among `words`."""
    assert importlib.util.find_spec(module.split()[0]), module
    if words and f"{module} {words[0]}" in commands():
        module = f"{module} {words[0]}"
    if "--" in words:  # what stands behind it goes to the trainer
        check("trainer", words[words.index("--") + 1 :])
        words = words[: words.index("--")]
    known = options(commands()[module]) if module in commands() else set()
    for before, word in zip(["", *words], words, strict=False):
        if before == "--variant":
            check("trainer", word.split())
        else:
            assert not word.startswith("--") or word in known, f"{module} {word}"


def shell(text: str) -> str:
    """All fenced commands, one per line, and those in the middle of a sentence."""
    blocks = re.sub(r" *\\\n *", " ", "".join(fenced(text, "sh")))
    return blocks + "\n".join(re.findall(r"`((?:python|pytest|bash) [^`]+)`", text.replace("\n", " ")))


def words_of(command: str) -> list[str]:
    return shlex.split(re.split(r" #|[;|&>)]", command)[0])


@pytest.mark.parametrize("name", PAGES)
def test_commands_have_flags_that_the_programs_know(name):
    text = shell(PAGES[name].read_text())
    for module, rest in re.findall(r"(?:python|torchrun .*?) -m ([\w.]+)(.*)", text):
        check(module, words_of(rest))
    for rest in re.findall(r"python app\.py(.*)", text):
        parse(words_of(rest))
    for rest in re.findall(r"bash docs/sweeps/\S+ [\w/$-]+(.*)", text):
        check("trainer", words_of(rest))


@pytest.mark.parametrize("name", PAGES)
def test_shell_blocks_are_valid_and_name_files_that_exist(name):
    for block in fenced(PAGES[name].read_text(), "sh"):
        assert subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True).stderr == ""
        for path in re.findall(r"(?<!--output )\b((?:docs|assets|requirements)[\w/.-]*\.(?:sh|txt|png))", block):
            assert (ROOT / path).is_file(), path


def test_a_flag_in_a_sentence_is_one_of_some_program():
    own = re.findall(r'"(--[\w-]+)"', (ROOT / "app.py").read_text())
    known = set().union(own, *map(options, commands().values()))
    for name, page in PAGES.items():
        given = set(re.findall(r"`(--[a-z][\w-]*)", page.read_text()))
        assert given <= known, f"{name}: {given - known}"


def test_ci_runs_the_test_command_of_the_readme():
    command = fenced(PAGES["README.md"].read_text(), "sh")[2].strip()
    assert "pytest" in command and f"\n{command}\n" in (ROOT / ".ci" / "run").read_text()


def test_the_workflow_runs_it_at_every_push():
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


def test_the_readmes_call_and_the_answers_in_the_docs_are_what_a_server_gives(tmp_path):
    (curl,) = [block for block in fenced(PAGES["README.md"].read_text(), "sh") if block.startswith("curl")]
    examples = map(yaml.safe_load, fenced(PAGES["docs/api.md"].read_text(), "json"))
    cat = (ROOT / "assets" / "examples" / "cat.png").read_bytes()
    with running_app(tmp_path) as address:
        call = ["bash", "-c", curl.replace("http://127.0.0.1:7860", address)]
        answers = [yaml.safe_load(subprocess.run(call, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout)]
        files = [("images", cat), ("images", b"")]
        answers.append(httpx.post(f"{address}/api/predict/batch", files=files, timeout=60).json())
        answers.append(httpx.post(f"{address}/api/activation-map", files={"image": cat}, timeout=60).json())
        answers.append(httpx.get(f"{address}/api/model", timeout=60).json())
    for answer, example in zip(answers, examples, strict=True):
        assert shows(example, answer), example
        if isinstance(answer, list):
            assert answer[1]["error"].startswith(example[1]["error"].removesuffix("..."))

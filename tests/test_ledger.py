import importlib.util
import json
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

spec = importlib.util.spec_from_file_location("ledger", PROJECT / "docs" / "ledger.py")
ledger = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ledger)


def test_the_tables_in_readme_and_results_are_what_the_runs_wrote():
    for path, text in ledger.pages().items():
        assert path.read_text() == text, f"run `python -m docs.ledger`: {path} is stale"


def test_a_row_states_the_runs_own_numbers():
    metrics = json.loads((ledger.BUNDLED / "metrics.json").read_text())
    row = ledger.row("bundled model", metrics)
    assert f"| {metrics['test']['correct'] / 100:.2f}% |" in row
    assert f"| {metrics['val']['correct'] / 50:.2f}% |" in row


def test_every_ledger_run_keeps_its_history():
    for folder in (PROJECT / "docs" / "runs").glob("*"):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert len((folder / "history.csv").read_text().splitlines()) == metrics["training"]["epochs"] + 1


def test_the_readme_has_the_two_commands_and_ci_calls_the_second_one():
    readme = (PROJECT / "README.md").read_text()
    test_command = "pip install -r requirements.txt -r requirements-dev.txt && pytest"
    assert "    pip install -r requirements-app.txt && python app.py\n" in readme
    assert f"    {test_command}\n" in readme
    assert f"\n{test_command}\n" in (PROJECT / ".ci" / "run").read_text()


def test_the_python_in_the_readme_runs(capsys, monkeypatch):
    monkeypatch.chdir(PROJECT)
    code = re.search(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL).group(1)
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.endswith("%") for line in lines)


def test_links_between_pages_lead_somewhere():
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"

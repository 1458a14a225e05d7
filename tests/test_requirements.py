import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE_OF_MODULE = {
    "PIL": "pillow",
    "pi_heif": "pi-heif",
    "python_multipart": "python-multipart",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "axe_playwright_python": "axe-playwright-python",
}
# Names that come with a listed package, which imports them itself and re-exports or requires them.
COMES_WITH = {
    "packaging": "huggingface_hub",
    "pyyaml": "huggingface_hub",
    "tqdm": "lightning",
}


def requirements(name: str) -> dict[str, str]:
    """Package -> version bounds."""
    lines = [line for line in (PROJECT / name).read_text().splitlines() if line and not line.startswith("#")]
    found = dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in lines)
    assert len(found) == len(lines)
    return found


def imported(*folders: str) -> set[str]:
    """Third-party packages that our own code imports, anywhere in a file."""
    ours = {"model", "trainer", "ui", "server", "app", "tests", "benchmarks", "experiments"}
    names = set()
    for folder in folders:
        path = PROJECT / folder
        for file in [path] if path.is_file() else path.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names.add(node.module.split(".")[0])
    third_party = names - set(sys.stdlib_module_names) - ours
    packages = {PACKAGE_OF_MODULE.get(name, name) for name in third_party}
    return {COMES_WITH.get(package, package) for package in packages}


def test_the_apps_requirements_are_a_lean_subset_of_the_complete_list():
    complete, lean = requirements("requirements.txt"), requirements("requirements-app.txt")
    assert lean.items() <= complete.items() and not {"torch", "torchvision", "lightning"} & lean.keys()
    assert {"uvloop", "httptools"} <= lean.keys()  # nothing of ours imports them: uvicorn takes them where they are


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-app.txt", "requirements-dev.txt"])
def test_every_requirement_is_bounded_to_a_major_version(name):
    for package, bounds in requirements(name).items():
        assert re.fullmatch(r">=\d+(\.\d+)*,<\d+", bounds.partition(";")[0]), package


def test_what_the_app_imports_is_in_its_requirements():
    model = [f"model/{path.name}" for path in (PROJECT / "model").glob("*.py") if path.name != "resnet.py"]
    assert imported("app.py", "server", "ui", *model) <= requirements("requirements-app.txt").keys()


def test_what_publishing_and_hosting_import_is_in_the_apps_requirements():
    names = "__init__ __main__ card commands config download errors publish run space".split()
    needed = imported(*(f"trainer/{name}.py" for name in names))
    only_for_training = {"lightning", "pyarrow", "torchvision"}  # imported in functions that publishing never calls
    assert needed - only_for_training <= requirements("requirements-app.txt").keys()


def test_what_everything_else_imports_is_listed():
    complete = requirements("requirements.txt").keys()
    assert imported("model", "trainer") <= complete
    listed = complete | requirements("requirements-dev.txt").keys()
    assert imported("tests", "benchmarks", "experiments", "assets") <= listed


@pytest.mark.slow
def test_the_apps_lowest_allowed_versions_can_be_installed_together():
    """The page ran with them, too; torch's packages are too large for a test."""
    bounds = requirements("requirements-app.txt").items()
    lowest = [f"{name}=={re.match(r'>=([0-9.]+)', each)[1]}{''.join(each.partition(';')[1:])}" for name, each in bounds]
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", *lowest]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr

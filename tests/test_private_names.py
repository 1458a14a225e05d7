"""We use what our dependencies document: what they keep private, or do not expect to be replaced, may change in any
release."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PARTS = ("app.py", "model", "trainer", "ui", "server", "benchmarks", "experiments")

DOCUMENTED = {
    "args.model": "https://docs.python.org/3/library/argparse.html#the-namespace-object",
    "args.revision": "https://docs.python.org/3/library/argparse.html#the-namespace-object",
    "figure.dpi": "https://matplotlib.org/stable/api/_as_gen/matplotlib.figure.Figure.html",
    "line._replace": "https://docs.python.org/3/library/collections.html#collections.somenamedtuple._replace",
    "log.propagate": "https://docs.python.org/3/library/logging.html#logging.Logger.propagate",
    "options.inter_op_num_threads": "https://onnxruntime.ai/docs/api/python/api_summary.html#sessionoptions",
    "options.intra_op_num_threads": "https://onnxruntime.ai/docs/api/python/api_summary.html#sessionoptions",
    "options.log_severity_level": "https://onnxruntime.ai/docs/api/python/api_summary.html#sessionoptions",
    "options.AUX_IMAGES": "https://pillow-heif.readthedocs.io/en/latest/options.html",
    "options.DECODE_THREADS": "https://pillow-heif.readthedocs.io/en/latest/options.html",
    "options.DEPTH_IMAGES": "https://pillow-heif.readthedocs.io/en/latest/options.html",
    "options.THUMBNAILS": "https://pillow-heif.readthedocs.io/en/latest/options.html",
    "os._exit": "https://docs.python.org/3/library/os.html#os._exit",
    "page.max_threads": "https://www.gradio.app/docs/gradio/blocks#param-blocks-launch-max-threads",
    "page.state_session_capacity": "https://www.gradio.app/docs/gradio/blocks#param-blocks-launch-state-session-capacity",
    "self.trainer.should_stop": "https://lightning.ai/docs/pytorch/stable/common/trainer.html#should-stop",
    "square.info": "https://pillow.readthedocs.io/en/stable/reference/Image.html#PIL.Image.Image.info",
    "trainer.should_stop": "https://lightning.ai/docs/pytorch/stable/common/trainer.html#should-stop",
    "torch.backends.cudnn.benchmark": "https://docs.pytorch.org/docs/stable/backends.html#torch-backends-cudnn",
}
"""As the code spells it, and where it is documented. Nothing else is exempt."""


def is_private(name: str) -> bool:
    return any(re.match(r"_(?!_)\w", part) for part in name.split("."))


def own_attributes(trees: list[ast.AST]) -> set[str]:
    """Names that our classes give to their instances: fields of dataclasses, and what is set on `self`."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    stored = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    fields = [line for node in nodes if isinstance(node, ast.ClassDef) for line in node.body]
    names = {line.target.id for line in fields if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)}
    return names | {node.attr for node in stored if ast.unparse(node.value) == "self"}


def found_in(tree: ast.AST, own: set[str]) -> Iterator[tuple[int, str]]:
    """Line and expression of each private name of somebody else's, and of each attribute of theirs that is set."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value, attr, context) if ast.unparse(value) not in ("self", "cls"):
                if is_private(attr) or (not isinstance(context, ast.Load) and attr not in own):
                    yield node.lineno, ast.unparse(node)
            case ast.Import(names) | ast.ImportFrom(names=names):
                modules = [alias.name for alias in names] + [getattr(node, "module", None) or ""]
                yield from ((node.lineno, ast.unparse(node)) for module in modules if is_private(module))
            case ast.Constant(str(text)) if re.fullmatch(r"[A-Za-z]\w*(\.\w+)+", text) and is_private(text):
                yield node.lineno, text
            case ast.Call(ast.Name("setattr" | "delattr"), [ast.expr() as of, *_]) if ast.unparse(of) != "self":
                yield node.lineno, ast.unparse(node)
            case ast.Call(ast.Name("getattr" | "hasattr"), [_, ast.Constant(str(name)), *_]) if is_private(name):
                yield node.lineno, ast.unparse(node)


def test_each_way_to_a_private_name_is_found():
    lines = ["a._b", "f.__signature__ = 1", "import x._y", "from x import _y", "g('x.y._z')", "module.CONSTANT = 1"]
    lines += ["setattr(x, 'y', 1)", "getattr(x, '_y')", "a.own = self._x = cls._x = a.__name__", "g('_x', '__main__')"]
    assert sorted(line for line, _ in found_in(ast.parse("\n".join(lines)), {"own"})) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_we_use_no_private_name_of_a_dependency_and_replace_nothing_in_it():
    paths = [path for part in PARTS for path in (PROJECT / part, *(PROJECT / part).rglob("*.py")) if path.is_file()]
    trees = {path.relative_to(PROJECT).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}
    own = own_attributes(list(trees.values()))
    found = {(name, *place) for name, tree in trees.items() for place in found_in(tree, own)}
    assert sorted(f for f in found if f[2] not in DOCUMENTED) == []

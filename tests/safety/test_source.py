"""Reads the sources: nothing unpickles, unpacks archives to disk, runs text as code or gives text to a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for top in ("schemas", "pipeline", "jobs", "benchmarks") for path in (ROOT / top).rglob("*.py"))

# Whoever imports one of these can have code run by what it reads.
MODULES = {"cPickle", "_pickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve", "pandas", "pty"}
MODULES |= {"webdataset", "code", "codeop", "xmlrpc", "torch.hub", "torch.package", "torch.jit", "ray.cloudpickle"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    "pickle": "unpickles",
    "unsafe_load": "builds any object that a YAML names",
    "full_load": "builds objects that a YAML names",
    "UnsafeLoader": "builds any object that a YAML names",
    "FullLoader": "builds objects that a YAML names",
    "read_pickle": "unpickles",
    "add_safe_globals": "lets a weights file run code",
    "safe_globals": "lets a weights file run code",
    "PyExtensionType": "unpickles from a Parquet file's metadata",
    "extract": "writes archive members where their names say",
    "extractall": "writes archive members where their names say",
    "unpack_archive": "writes archive members where their names say",
    "system": "is a shell",
    "popen": "is a shell",
    "getoutput": "is a shell",
    "getstatusoutput": "is a shell",
    "create_subprocess_shell": "is a shell",
    "mktemp": "gives a name that others can take first",
}
RUNNERS = {"run", "Popen", "call", "check_call", "check_output"}
EXCEPTION_OF_PICKLE = "UnpicklingError"  # what torch raises, caught by its name


def faults(tree: ast.Module) -> Iterator[str]:
    """What of a file is refused, as `line: why`."""
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr)):
        why = None
        if isinstance(node, ast.Import):
            why = _imports(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [alias.name for alias in node.names]
            why = _imports([module, *(f"{module}.{name}" for name in names)])
            if module == "pickle" or (module in ("os", "subprocess", "shutil") and set(names) & set(ATTRIBUTES)):
                why = why or f"{', '.join(names)} of {module}"
        elif isinstance(node, ast.Attribute):
            why = _attribute(node)
        elif isinstance(node, ast.Call):
            why = _call(node)
        if why:
            yield f"{node.lineno}: {why}"


def _imports(names: Iterable[str]) -> str | None:
    for name in names:
        for module in MODULES:
            if name == module or name.startswith(f"{module}."):
                return f"imports {module}"
    return None


def _attribute(node: ast.Attribute) -> str | None:
    of = node.value.id if isinstance(node.value, ast.Name) else ""
    if of == "pickle" and node.attr != EXCEPTION_OF_PICKLE:
        return f"pickle.{node.attr} unpickles"
    if node.attr in ATTRIBUTES and of != "platform":
        return f"{node.attr} {ATTRIBUTES[node.attr]}"
    return None


def _call(node: ast.Call) -> str | None:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    of = node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
    attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in BUILTINS:
        return f"{name} runs text as code"
    if "allow_pickle" in given and not _is(given["allow_pickle"], False):
        return "allow_pickle must be False"
    if (of, attribute) == ("torch", "load") and not _is(given.get("weights_only"), True):
        return "torch.load without weights_only=True unpickles"
    if (of, attribute) == ("yaml", "load"):
        return "yaml.load builds objects that a YAML names; safe_load does not"
    loader = given.get("Loader")
    if loader is not None and not (isinstance(loader, ast.Attribute) and loader.attr == "SafeLoader"):
        return "a YAML loader that is not SafeLoader"
    if "shell" in given and not _is(given["shell"], False):
        return "shell= hands text to a shell"
    is_run = (of == "subprocess" and attribute in RUNNERS) or name in RUNNERS - {"run", "call"}
    if is_run and (not node.args or _is_text(node.args[0])):
        return "a program and its arguments are a list, not a text"
    return None


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join")
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_runs_what_it_reads(path: Path) -> None:
    assert not list(faults(ast.parse(path.read_text())))


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle\npickle.loads(b'')",
        "import pickle\nload = pickle.load",
        "from pickle import loads",
        "import joblib",
        "from ray import cloudpickle",
        "import torch.hub",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "np.lib.format.read_array(file, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.serialization.add_safe_globals([object])",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.compose(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "pd.read_pickle(path)",
        "eval(text)",
        "exec(text)",
        "tarfile.open(path).extractall(folder)",
        "archive.extract(member)",
        "shutil.unpack_archive(path)",
        "os.system(text)",
        "from os import popen",
        "subprocess.run(command, shell=True)",
        "subprocess.run(f'ls {path}')",
        "subprocess.Popen('ls ' + path)",
        "subprocess.run(' '.join(words))",
        "subprocess.check_output('ls {}'.format(path))",
        "subprocess.getoutput('ls')",
        "webdataset.WebDataset(path)\nimport webdataset",
    ],
)
def test_the_check_sees(bad: str) -> None:
    assert list(faults(ast.parse(bad)))


@pytest.mark.parametrize(
    "good",
    [
        "subprocess.run([program, path], check=True)",
        "try:\n    pass\nexcept pickle.UnpicklingError:\n    pass",
        "torch.load(path, map_location='cpu', weights_only=True)",
        "yaml.safe_load(text)",
        "np.load(path, allow_pickle=False)",
        "platform.system()",
    ],
)
def test_the_check_lets_pass(good: str) -> None:
    assert not list(faults(ast.parse(good)))


def test_the_checks_see_the_code() -> None:
    assert len(SOURCES) > 250

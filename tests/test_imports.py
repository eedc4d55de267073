"""Holds the direction of imports: schemas <- domain <- stages, training <- runner <- jobs, and what stays out."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for top in ("schemas", "pipeline", "jobs") for path in (ROOT / top).rglob("*.py"))
# the domain: no stage, no runner
LEAVES = ("video", "flow", "backbones", "heads", "metrics", "annotations", "sources", "synth")


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it in full"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def touches(names: set[str], *prefixes: str) -> set[str]:
    return {name for name in names for prefix in prefixes if name == prefix or name.startswith(prefix + ".")}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_direction(path: Path) -> None:
    names, where = imported(path), relative(path)
    if not where.startswith("jobs/"):
        assert not touches(names, "jobs"), "nothing imports jobs"
    if not where.startswith("jobs/") and not where.startswith("pipeline/runner/"):
        assert not touches(names, "ray"), "only the runner and jobs import ray"
        assert not touches(names, "pipeline.runner"), "only jobs import the runner"
    if where.startswith("schemas/"):
        assert not touches(names, "pipeline"), "schemas import nothing of ours"
        foreign = {name.partition(".")[0] for name in names} - {"schemas", "pyarrow", "pydantic"}
        assert not touches(foreign, "torch", "av", "cv2", "yaml", "rich", "typer")
        assert not touches(foreign, "numpy") or where == "schemas/annotation.py", "only tables of numbers are numpy's"
    if where.startswith(tuple(f"pipeline/{leaf}/" for leaf in LEAVES)):
        assert not touches(
            names, "pipeline.stages", "pipeline.training", "pipeline.export", "pipeline.survey", "pipeline.verify"
        )
        package = where.split("/")[1]
        known = {package, "annotations"} if package == "sources" else {package}  # an index reads annotations
        others = [f"pipeline.{leaf}" for leaf in LEAVES if leaf not in known]
        assert not touches(names, *others), "the rooms of the domain do not know each other"


@pytest.mark.parametrize(
    "name", ["units", "receipts", "store", "shards", "graph", "survey", "config", "backbones/__init__"]
)
def test_planning_needs_no_heavy_package(name: str) -> None:
    names = imported(ROOT / "pipeline" / f"{name}.py")
    assert not touches(names, "torch", "av", "cv2", "webdataset", "numba")


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_machines_without_av_ray_webdataset_can_import(path: Path) -> None:
    """A GPU node has neither: outside the modules whose trade they are, they are imported where they are used."""
    where = relative(path)
    if where.startswith("jobs/") or where.startswith("pipeline/runner/"):
        return
    allowed = {"av"} if where.startswith(("pipeline/video/", "pipeline/synth/")) else set()
    assert not touches(imported(path, top_level_only=True), *({"av", "ray", "webdataset"} - allowed))


def test_the_checks_see_the_code() -> None:
    assert len(SOURCES) > 30
    assert "pipeline.store" in imported(ROOT / "pipeline/receipts.py")

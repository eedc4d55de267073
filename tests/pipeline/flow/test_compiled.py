"""Compiled kernels lie on disk, under a name that changes with the sources; without a folder they work as well."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.flow import compiled

ROOT = Path(__file__).resolve().parents[3]


@compiled.kernel
def _wait_for(flags, awaited, counted, max_turns):
    """Turn until another thread sets flags[awaited]; the indices are arguments, so each turn must read anew."""
    for turn in range(max_turns):
        if flags[awaited]:
            return turn
        flags[counted] += 1
    return -1


def test_kernels_run_without_pythons_lock() -> None:
    flags = np.zeros(2, np.int64)
    assert _wait_for(flags, 0, 1, 0) == -1  # compiled
    answers = []
    thread = threading.Thread(target=lambda: answers.append(_wait_for(flags, 0, 1, 1 << 36)))
    thread.start()
    while not flags[1]:  # the kernel turns
        pass
    flags[0] = 1  # both are reached meanwhile only if the kernel lets this thread go on
    thread.join()
    assert answers[0] > 0


@pytest.fixture
def tree(tmp_path):
    """A copy of what the kernels need."""
    for name in ("pipeline/__init__.py", "schemas/__init__.py", "schemas/errors.py"):
        if (ROOT / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pipeline/flow", tmp_path / "pipeline/flow", ignore=ignore)
    return tmp_path


FILTER = textwrap.dedent("""
    import json
    import numpy as np
    from pipeline.flow import compiled, cpu_grid, cpu_median
    grid = cpu_grid.new_grid(16, 16)
    cpu_grid.image_of(grid, 0, 16, 16)[:] = np.arange(256).reshape(16, 16)
    cpu_median.median_filter(grid, 0, 10, 16, 16, 16, 3, cpu_grid.aligned_zeros(8, grid.shape[1]))
    stats = cpu_median.median_filter.stats
    print(json.dumps({
        "file": compiled.__file__,
        "folder": stats.cache_path,
        "loaded": sum(stats.cache_hits.values()),
        "compiled": sum(stats.cache_misses.values()),
        "center": float(cpu_grid.image_of(grid, 0, 16, 16)[8, 8]),
    }))
""")


def run(tree, **environment):
    """What a fresh process says of its median filter; None takes a variable away."""
    merged = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    merged = {name: str(value) for name, value in merged.items() if value is not None}
    result = subprocess.run([sys.executable, "-c", FILTER], cwd=tree, env=merged, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert Path(answer["file"]).is_relative_to(tree)
    return answer


def in_tree_caches(tree):
    return list(tree.rglob("*.nb?"))


def test_second_process_loads_and_a_changed_source_compiles(tree, tmp_path) -> None:
    where = {"XDG_CACHE_HOME": tmp_path / "cache", "NUMBA_CACHE_DIR": None}
    first, second = run(tree, **where), run(tree, **where)
    assert Path(first["folder"]).is_relative_to(tmp_path / "cache")
    assert (first["loaded"], first["compiled"]) == (0, 1)
    assert (second["loaded"], second["compiled"]) == (1, 0)
    # the filter's own file stays as it is, one that it inlines changes: of two, it takes the larger one both times
    simd = tree / "pipeline/flow/simd.py"
    simd.write_text(simd.read_text().replace('minimum = _compare_and_take("<")', 'minimum = _compare_and_take(">")'))
    third = run(tree, **where)
    assert (third["loaded"], third["compiled"]) == (0, 1)
    assert third["folder"] != first["folder"]
    assert (second["center"], third["center"]) == (8 * 16 + 8, 9 * 16 + 9)
    assert not in_tree_caches(tree / "pipeline")


def test_without_a_folder_that_can_be_written(tree) -> None:
    answer = run(tree, XDG_CACHE_HOME=None, NUMBA_CACHE_DIR=None, HOME="/dev/null")
    assert (answer["folder"], answer["loaded"], answer["center"]) == (None, 0, 136)
    # not beside the sources, either: there, a change in an inlined file would go unnoticed
    assert not in_tree_caches(tree)


@pytest.fixture
def anew(monkeypatch):
    """The folder is looked for anew, before and after the test."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(compiled.config, "CACHE_DIR", "")
    compiled._directory.cache_clear()
    yield monkeypatch
    compiled._directory.cache_clear()


def test_without_a_home(anew) -> None:
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    anew.setattr(Path, "home", homeless)
    assert compiled._directory() is None
    assert compiled.kernel(lambda x: x + 1)(2) == 3


@pytest.mark.parametrize("place", ["home", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"])
def test_folder(anew, tmp_path, place) -> None:
    anew.setattr(Path, "home", lambda: tmp_path / "home")
    if place == "XDG_CACHE_HOME":
        anew.setenv(place, str(tmp_path / place))
    if place == "NUMBA_CACHE_DIR":  # read by numba when it is imported
        anew.setattr(compiled.config, "CACHE_DIR", str(tmp_path / place))
    folder = Path(compiled._directory())
    parts = folder.relative_to(tmp_path).parts
    assert parts[:-1] == (*((place, ".cache") if place == "home" else (place,)), "reelmill")
    assert parts[-1].startswith("kernels-")
    assert list(folder.iterdir()) == []


def test_numbas_setting_is_left_as_it_was(anew, tmp_path) -> None:
    anew.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel = compiled.kernel(_plain)
    assert Path(kernel.stats.cache_path).is_relative_to(tmp_path)
    assert compiled.config.CACHE_DIR == ""


def _plain(x):
    return x

"""What the tests of clusters share: the modules beside them that are no tests, importable by their names, and the
trees of runs that nobody disturbed, each made once for all files."""

import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.synth import SynthSpec, make_dataset

sys.path.insert(0, str(Path(__file__).parent))

from trees import tree
from victims import NUM_VIDEOS, SMALL, WHOLE, Run, kill_left, write_config


@pytest.fixture(autouse=True)
def nothing_outlives_its_test() -> Iterator[None]:
    yield
    kill_left()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Gives a folder that one process of the tests makes, where several run side by side; the others wait for it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def folder_of(name: str, make: Callable[[Path], None]) -> Path:
        folder = root / name
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "done").exists():
                folder.mkdir(exist_ok=True)
                make(folder)
                (folder / "done").touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def videos(once) -> Path:
    """Small videos of two classes, with their lists."""
    spec = SynthSpec(num_classes=2, videos_per_class=NUM_VIDEOS // 2, duration_s=2.0)
    return once("videos", lambda folder: make_dataset(folder, spec))


def _tree_of(once, name: str, text: str, videos: Path) -> dict[str, str]:
    def make(folder: Path) -> None:
        run = Run(write_config(folder, videos, text=text), "--workers", "2")
        assert run.ends() == 0, run.said[-3000:]
        (folder / "tree.json").write_text(json.dumps(tree(run.out)))

    return json.loads((once(name, make) / "tree.json").read_text())


@pytest.fixture(scope="session")
def undisturbed(videos: Path, once) -> dict[str, str]:
    """The tree of a run of SMALL that nobody touched."""
    return _tree_of(once, "undisturbed", SMALL, videos)


@pytest.fixture(scope="session")
def undisturbed_whole(videos: Path, once) -> dict[str, str]:
    """The tree of a run of WHOLE that nobody touched."""
    return _tree_of(once, "undisturbed-whole", WHOLE, videos)

"""Files as datasets have them, and the real ones where they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.synth import SynthSpec
from pipeline.synth.annotations import annotation_files
from pipeline.synth.dataset import tubes_path
from pipeline.synth.plan import plan_videos
from pipeline.synth.scene import Scene
from pipeline.synth.tubes import tubes_json

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """write("a.txt", "text") -> its path; a surrogate becomes the byte that it stands for."""

    def make(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return str(path)

    return make


@pytest.fixture
def real() -> Callable[[str], str]:
    """real("thumos14/x.csv") -> the path of a file that others published; the test is skipped where it is absent."""

    def find(name: str) -> str:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"there is no {path}")
        return str(path)

    return find


@pytest.fixture(scope="session")
def synth_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The annotation files of a synthetic dataset, as `reelmill synth` lays them, without its videos."""
    root = tmp_path_factory.mktemp("synth")
    spec = SynthSpec(num_classes=10, videos_per_class=0, num_untrimmed=5, width_px=64, height_px=48, fps=10)
    plans = plan_videos(spec)
    tubes = {plan.video_id: tubes_json(Scene(spec, plan), video=f"{plan.video_id}.mp4") for plan in plans}
    texts = annotation_files(spec, plans, tubes)
    texts |= {tubes_path(plan): json.dumps(tubes[plan.video_id]) for plan in plans}
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root

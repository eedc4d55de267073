"""Credentials: none in an address is taken or repeated, and none of the environment is written anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from jobs import cli
from pipeline.config import parse_config
from pipeline.sources import build_manifest
from pipeline.store import Store, resolve
from pipeline.synth import SynthSpec, make_dataset
from schemas.errors import UsageError
from schemas.sources import PathListSource

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCY"
ADDRESSES = [
    f"s3://AKIAEXAMPLE:{SECRET}@bucket/place",
    f"s3://AKIAEXAMPLE:ab/{SECRET}@bucket/place?region=us-east-1",
    f"s3://bucket/place?access_key=AKIAEXAMPLE&secret_key={SECRET}",
    f"s3://bucket/place?X-Amz-Credential=AKIAEXAMPLE&X-Amz-Signature={SECRET}",
    f"https://host/place?X-Amz-Signature={SECRET}&X-Amz-Expires=3600",
    f"https://me:{SECRET}@host/place",
    f"hdfs://me:{SECRET}@host:8020/place",
    f"gs://me:{SECRET}@bucket/place",
    f"abfss://container@account.dfs.core.windows.net/place?sas_token={SECRET}",
]
CONFIG = """\
dataset: {dataset}
source: {{kind: kinetics, csv: "{csv}", videos: "{videos}"}}
clips:
  rgb16: {{frames: 16, fps: 5, resize: [32, 32]}}
features:
  c3d: {{from: clips/rgb16, model: c3d, weights: "{weights}", preprocess: {{mean: "{mean}"}}}}
heads:
  actions: {{kind: talnet, features: [c3d], annotations: {{kind: activitynet, json: "{json}"}}}}
"""
FIELDS = ["dataset", "csv", "videos", "weights", "mean", "json"]

each_address = pytest.mark.parametrize("address", ADDRESSES)


@each_address
@pytest.mark.parametrize("field", FIELDS)
def test_a_config_with_one_is_refused(address: str, field: str) -> None:
    values = {**dict.fromkeys(FIELDS, "plain"), field: address}
    with pytest.raises(UsageError, match=r"config.yaml:\d+: .*give credentials by the environment") as error:
        parse_config(CONFIG.format(**values), "config.yaml")
    assert SECRET not in str(error.value)


@each_address
@pytest.mark.parametrize(
    "words",
    [
        *(["index", "{}"], ["run", "{}"], ["run", "videos", "--dataset", "{}"], ["run", "videos", "--weights={}"]),
        *(["status", "{}"], ["verify", "{}"], ["train", "{}"], ["evaluate", "ava", "{}"], ["submit", "{}"]),
        *(["export", "{}", "--out", "x"], ["export", "x", "--out", "{}"], ["weights", "show", "{}"], ["{}"]),
        *(["plan", "{}"], ["run", "x.yaml", "--address", "{}"], ["submit", "x.yaml", "--address", "{}"]),
    ],
    ids=" ".join,
)
def test_an_argument_with_one_is_refused(
    address: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["reelmill", *(word.format(address) for word in words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    assert ended.value.code == 2
    assert "give credentials by the environment" in err
    assert SECRET not in out + err


@each_address
def test_a_location_with_one_is_refused(address: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve(address)
    assert SECRET not in str(error.value)


@each_address
def test_a_list_with_one_gives_an_issue_without_it(address: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    lines = ["a.mp4 run", f"{address}/b.mp4 run", f"{address} run", address, f"a.mp4\t{address}", f"run {address}"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    store = Store(str(tmp_path / "dataset"))
    report = build_manifest(store, PathListSource(kind="list", list=str(tmp_path / "list.txt")))
    assert (report.num_rows, report.issue_counts) == (1, {"malformed_row": 5})
    assert not holding(tmp_path / "dataset", SECRET)


def holding(folder: Path, secret: str) -> list[Path]:
    """The files that hold it, whole or as bytes of another encoding."""
    forms = (secret.encode(), secret.encode("utf-16-le"))
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(form in path.read_bytes() for form in forms)]


# ---------------------------------------------------------------- the environment's


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_dataset(folder, SynthSpec(num_classes=2, videos_per_class=2, duration_s=2.0))
    return folder


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of Ray's logs and sockets; sockets want a short path."""
    folder = Path(tempfile.mkdtemp(prefix="rm-", dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def run(videos: Path, tmp_path: Path, s3_uri: str, session: Path) -> Callable[[], subprocess.CompletedProcess[bytes]]:
    text = f"""\
dataset: {s3_uri.format("secrets")}
source: {{kind: kinetics, csv: {videos}/trimmed/kinetics.csv, videos: {videos}/trimmed/videos}}
clips:
  rgb16: {{frames: 16, fps: 8, resize: [32, 32]}}
"""
    (tmp_path / "config.yaml").write_text(text)
    command = [sys.executable, "-m", "jobs.run", str(tmp_path / "config.yaml"), "--workers", "1"]
    return lambda: subprocess.run(command, capture_output=True, check=False)


@pytest.mark.cluster
@pytest.mark.slow
def test_a_run_writes_no_secret_of_its_environment(
    run: Callable[[], subprocess.CompletedProcess[bytes]], session: Path, tmp_path: Path, s3_uri: str
) -> None:
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    assert len(secret) > 16
    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert secret.encode() not in ended.stdout + ended.stderr
    filesystem, root = resolve(s3_uri.format("secrets"))
    infos = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    names = {info.base_name: filesystem.open_input_file(info.path).read() for info in infos if info.is_file}
    assert {"manifest.parquet", "_config.json", "_card.json"} <= set(names)
    assert not [name for name, data in names.items() if secret.encode() in data]
    assert list(session.rglob("raylet.out")), "Ray's logs are elsewhere"
    assert not holding(session, secret)


@pytest.mark.cluster
def test_a_refused_secret_is_not_repeated(
    run: Callable[[], subprocess.CompletedProcess[bytes]], session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    ended = run()
    assert ended.returncode in (1, 2)
    assert b"Traceback" not in ended.stderr
    assert SECRET.encode() not in ended.stdout + ended.stderr
    assert not holding(session, SECRET)

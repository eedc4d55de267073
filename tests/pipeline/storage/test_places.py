import pickle

import pyarrow.fs as pafs
import pytest

from pipeline.store import Store, resolve, shown
from schemas.errors import UsageError

SECRET = "wJalr/K7MDENG+bPx"
SECRETIVE = [
    f"s3://AKIA:{SECRET}@bucket/x",
    f"s3://AKIA:{SECRET}@bucket/x?region=eu-west-1",
    "s3://AKIA:wJalr%2FK7MDENG@bucket/x",
    "hdfs://me:wJalr@host:8020/x",
    "gs://me:wJalr@bucket/x",
    "https://me:wJalr@host/x",
    "s3://AKIA:wJalr",
]


@pytest.mark.parametrize("uri", SECRETIVE)
def test_a_password_is_refused_and_not_repeated(uri) -> None:
    with pytest.raises(UsageError, match="has a password in it") as error:
        resolve(uri)
    assert "wJalr" not in str(error.value)
    assert "wJalr" not in shown(uri)


def test_a_secret_among_the_options_is_not_shown() -> None:
    uri = f"s3://bucket/x?region=eu-west-1&secret_key={SECRET}&endpoint_override=me:wJalr@host"
    assert shown(uri) == "s3://bucket/x?region=eu-west-1&secret_key=…&endpoint_override=…"
    with pytest.raises(UsageError, match="has a password in it") as error:
        resolve(uri)
    assert "wJalr" not in str(error.value)


@pytest.mark.parametrize(
    "place", ["/a/b", "rel", "s3://bucket/x@2:3", "hdfs://host:8020/x", "abfs://container@account/x", "file:///a"]
)
def test_what_has_no_secret_is_shown_as_it_is(place) -> None:
    assert shown(place) == place


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("s3:///x", "names no bucket"),
        ("s3://bucket?region=a&x=1", "no option 'x'"),
        ("s3://bucket?allow_delayed_open=maybe", "true or false"),
        ("nosuch://bucket", "not a location"),
    ],
)
def test_what_is_no_location(uri, what) -> None:
    with pytest.raises(UsageError, match=what):
        resolve(uri)


def test_local_places(tmp_path) -> None:
    assert resolve(f"file://{tmp_path}") == (pafs.LocalFileSystem(), str(tmp_path))
    assert resolve("/a/../b")[1] == "/b"


def test_names_are_unquoted(scripted) -> None:
    assert resolve(scripted.uri("a%20b%3Fc/100%.mp4"))[1] == "bucket/a b?c/100%.mp4"


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize("region", ["AWS_REGION", "AWS_DEFAULT_REGION", None])
def test_endpoint_and_region_from_the_environment(scripted, monkeypatch, variable, region) -> None:
    monkeypatch.setenv(variable, f"http://{scripted.endpoint}")
    if region:
        monkeypatch.setenv(region, "eu-north-1")
    store = Store("s3://bucket/deep")
    store.put("x", b"1")
    assert scripted.objects == {"deep/x": b"1"}
    assert pickle.loads(pickle.dumps(store)).read("x") == b"1"


def test_endpoint_and_credentials_from_a_profile(scripted, monkeypatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(
        f"[profile mine]\nregion = eu-north-1\nendpoint_url = http://{scripted.endpoint}\n"
    )
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    Store("s3://bucket").put("x", b"1")
    assert scripted.objects == {"x": b"1"}

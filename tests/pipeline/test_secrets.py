"""What of a text is a credential, and what is not."""

from __future__ import annotations

import pytest

from pipeline.secrets import has_secret, redacted

SECRET = "wJalrXUtnFEMI+K7MDENG"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"s3://AKIA:{SECRET}@bucket/videos", "s3://…"),
        (f"s3://AKIA:ab/{SECRET}/cd@bucket/videos?region=eu", "s3://…?region=eu"),
        (f"s3:/AKIA:{SECRET}@bucket/config.yaml: no such file", "s3:/… no such file"),
        (f"gs://me:{SECRET}@bucket", "gs://…"),
        (f"https://me:{SECRET}@host/a.mp4 3", "https://…@host/a.mp4 3"),
        (f"hdfs://me:{SECRET}@host:8020/x", "hdfs://…@host:8020/x"),
        (f"s3://b/x?access_key=AKIA&secret_key={SECRET}", "s3://b/x?access_key=…&secret_key=…"),
        (
            f"https://h/x?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}&a=1",
            "https://h/x?X-Amz-Credential=…&X-Amz-Signature=…&a=1",
        ),
        (f"https://h/x?sv=1&sig={SECRET}", "https://h/x?sv=1&sig=…"),
        (f"abfss://c@a.dfs.core.windows.net/x?sas_token={SECRET}", "abfss://c@a.dfs.core.windows.net/x?sas_token=…"),
    ],
)
def test_credentials_are_hidden(text: str, expected: str) -> None:
    assert redacted(text) == expected
    assert has_secret(text)
    assert redacted(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/videos?endpoint_override=127.0.0.1:8333&scheme=http&region=us-east-1",
        "s3://bucket: no such folder",
        "s3://bucket/a@b/c:d.mp4",
        "hdfs://host:8020/path@2x/video.mp4",
        "https://www.youtube.com/watch?v=abc&design=2&t=10 168,169",
        "/data/a:b@c/video.mp4?token=1",
        "me:secret@host",
        "C:/videos/a@b.mp4",
        "abfss://container@account.dfs.core.windows.net/videos",
    ],
)
def test_what_carries_none_stays(text: str) -> None:
    assert redacted(text) == text
    assert not has_secret(text)

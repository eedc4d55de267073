"""From an address to a filesystem, and from an address to what may be shown of it."""

from __future__ import annotations

import configparser
import os
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pyarrow as pa
import pyarrow.fs as pafs

from pipeline.secrets import NO_SECRETS, has_secret, redacted
from pipeline.storage.patience import persist
from pipeline.storage.remote import Patient
from schemas.errors import UsageError

# A request that stalls so long is given up and made again. On Linux libcurl applies the first to the bytes that flow:
# a big file may take longer, a silent server may not.
REQUEST_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
QUICK_ATTEMPTS = 2  # inside the SDK: for a kept connection that the server has closed. `patience` does the rest
DEFAULT_REGION = "us-east-1"

_BOOLEANS = frozenset(
    {
        "allow_bucket_creation",
        "allow_bucket_deletion",
        "allow_delayed_open",
        "check_directory_existence_before_creation",
    }
    | {"force_virtual_addressing"}
)
_TEXTS = frozenset({"endpoint_override", "region", "scheme", "tls_ca_file_path"})
# whatever else the SDK reads for itself changes nothing in what we ask for
_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
)


def resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem and the path inside it for a local path or a URI.

    Any but a local one tries again what fails for a moment, and raises StorageError where that does not help. Raises
    UsageError for what is no location, and for a URI with a password in it.
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    refuse_secret(uri)
    filesystem, path = open_raw(uri)
    if isinstance(filesystem, pafs.LocalFileSystem):  # file://
        return filesystem, path
    return pafs.PyFileSystem(Patient(filesystem, uri.partition("://")[0])), path


def open_raw(uri: str) -> tuple[pafs.FileSystem, str]:
    """pyarrow's own filesystem for a URI, without patience. Raises UsageError."""
    try:
        if uri.startswith("s3://"):
            bucket, path, options = _split(uri)
            return _s3(bucket, tuple(sorted(options.items())), _environment()), path
        filesystem, path = pafs.FileSystem.from_uri(uri)
        return filesystem, path
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, ValueError) as error:
        raise UsageError(f"{shown(uri)}: not a location that pyarrow can open ({redacted(str(error))})") from None


# ---------------------------------------------------------------- what may be shown


def shown(uri: str) -> str:
    """An address for messages: without a password, and without the values of options that may be secrets."""
    if "://" not in uri:
        return uri
    base, question_mark, query = redacted(uri).partition("?")
    if not question_mark:
        return base
    pairs = (pair.partition("=") for pair in query.split("&"))
    known = _BOOLEANS | _TEXTS
    kept = [f"{name}={value if name in known and '@' not in value else '…'}" for name, _, value in pairs]
    return f"{base}?{'&'.join(kept)}"


def refuse_secret(uri: str) -> None:
    """Raises UsageError for a URI that carries credentials, without repeating them."""
    if has_secret(uri):
        raise UsageError(f"{shown(uri)}: {NO_SECRETS}")


# ---------------------------------------------------------------- S3


def _split(uri: str) -> tuple[str, str, dict[str, Any]]:
    """(bucket, path with the bucket, options). Raises ValueError."""
    base, _, query = uri.removeprefix("s3://").partition("?")
    path = unquote(base).rstrip("/")
    bucket = path.partition("/")[0]
    if not bucket:
        raise ValueError("it names no bucket")
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _BOOLEANS:
            if value.lower() not in ("true", "false", "1", "0"):
                raise ValueError(f"option {name} is true or false, got {value!r}")
            options[name] = value.lower() in ("true", "1")
        elif name in _TEXTS:
            options[name] = value
        else:
            raise ValueError(f"there is no option {name!r}, only {', '.join(sorted(_BOOLEANS | _TEXTS))}")
    return bucket, path, options


def _environment() -> tuple[str | None, ...]:
    return (str(os.getpid()), *(os.environ.get(name) for name in _VARIABLES))


@lru_cache(maxsize=64)
def _s3(bucket: str, options: tuple[tuple[str, Any], ...], environment: tuple[str | None, ...]) -> pafs.S3FileSystem:
    """One client for all files of a bucket: it keeps its connections. `environment` is only a key."""
    settings = dict(options)
    profile = _profile()
    endpoint = settings.pop("endpoint_override", None) or (
        os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or profile.get("endpoint_url")
    )
    if endpoint:
        scheme, separator, host = endpoint.rpartition("://")
        settings["endpoint_override"] = host.rstrip("/")
        if separator:
            settings.setdefault("scheme", scheme)
    region = settings.pop("region", None) or (
        os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or profile.get("region")
    )
    if not region:  # a server of one's own has none; Amazon knows where a bucket is
        region = DEFAULT_REGION if endpoint else _region(bucket)
    # a small file is one PUT, not three requests; what goes wrong is then said when the file is closed
    settings.setdefault("allow_delayed_open", True)
    return pafs.S3FileSystem(
        region=region,
        request_timeout=REQUEST_TIMEOUT_S,
        connect_timeout=CONNECT_TIMEOUT_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=QUICK_ATTEMPTS),
        **settings,
    )


def _region(bucket: str) -> str:
    return persist(lambda: str(pafs.resolve_s3_region(bucket)), f"s3://{bucket}", doing="look")


def _profile() -> dict[str, str]:
    """What ~/.aws/config says of region and endpoint; the SDK under pyarrow reads the credentials, but not these."""
    path = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    name = os.environ.get("AWS_PROFILE") or "default"
    parser = configparser.RawConfigParser()
    try:
        parser.read(path)
    except configparser.Error:
        return {}
    section = "default" if name == "default" else f"profile {name}"
    return dict(parser.items(section)) if parser.has_section(section) else {}

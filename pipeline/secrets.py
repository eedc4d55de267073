"""Credentials in text: an address may carry them, and messages, lists of issues and configs repeat addresses."""

from __future__ import annotations

import re

HIDDEN = "…"
NO_SECRETS = (
    "this address has a password in it, which would end up in logs and configs; leave it out, and give credentials by "
    "the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
)

# user:password@ before a host, after one slash too: pathlib folds two into one. A bucket's name has no colon, and a
# secret key may have slashes; in a message, a colon and a space may follow the bucket.
_BUCKET = re.compile(r"\b((?:s3[an]?|gs|gcs):/{1,2})[^\s/?#:]*:[^\s?#]+", re.IGNORECASE)
_HOST = re.compile(r"\b([a-z][a-z0-9+.-]*:/{1,2})[^\s/?#@:]*:[^\s/?#@]*@", re.IGNORECASE)
# options such as secret_key, X-Amz-Signature, X-Amz-Security-Token, X-Goog-Credential, sig (of Azure), api_key
_OPTION = re.compile(
    r"([?&;](?:[\w.-]*(?:secret|token|passw|credential|signature|access_?key|api_?key|auth)[\w.-]*|sig|pwd)=)[^&;#\s'\"]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """The same text where no address in it carries credentials, else with these hidden."""
    if ":/" not in text:
        return text
    text = _BUCKET.sub(rf"\1{HIDDEN}", text)
    text = _HOST.sub(rf"\1{HIDDEN}@", text)
    return _OPTION.sub(rf"\1{HIDDEN}", text)


def has_secret(text: str) -> bool:
    return redacted(text) != text

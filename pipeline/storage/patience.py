"""What is tried again, how long, and what the user hears meanwhile.

A server that restarts, throttles or drops a connection is waited for. What it refuses is an error at once: nobody's
patience gives a permission.
"""

from __future__ import annotations

import errno
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from pipeline.say import say
from schemas.errors import StorageError, UsageError

T = TypeVar("T")
Doing = Literal["read", "write", "list", "look"]

# As long as a storage node takes to be replaced; a night's run must outlive that. The variable reaches Ray's workers
# and the decoder processes, which a config's section does not.
PATIENCE_S = 300.0
PATIENCE_VARIABLE = "REELMILL_STORAGE_S"
FIRST_PAUSE_S = 0.2
# a server that is back is found soon, and not by a thousand workers at once: the pause is random
LONGEST_PAUSE_S = 10.0
QUIET_S = 5.0  # what is over sooner is nobody's business
Listener = Callable[[str, bool], None]  # a sentence, and whether storage is away or back
away_until_s = 0.0  # by time.monotonic(): until then nothing answers this process, for rehearsals (pipeline.chaos)

# names of the AWS SDK, as pyarrow prints them, and of the servers themselves
_TRANSIENT_CODES = frozenset(
    {"NETWORK_CONNECTION", "REQUEST_TIMEOUT", "SLOW_DOWN", "THROTTLING", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE"}
    | {"REQUEST_TIME_TOO_SKEWED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    # the answer to an upload's end was lost and the SDK asked again, or the server forgot the upload: it is sent anew
    | {"NO_SUCH_UPLOAD"}
)
_CODE = re.compile(r"AWS Error ([A-Z_]+)|Status\(([A-Z_]+)")
_HTTP_STATUS = re.compile(r"HTTP status (\d{3})")
_PASSING_STATUS = re.compile(r"408|429|5\d\d")
_WORDS = re.compile(r"\b(InternalError|SlowDown|ServiceUnavailable|RequestTimeout|Throttling)\b")
_CURL = re.compile(r"curlCode: (\d+)")
_LASTING_CURL = frozenset({"1", "3", "51", "58", "60", "77", "83", "91"})  # a bad address, or a certificate refused
_TRANSIENT_ERRNO = frozenset(
    {errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EPIPE, errno.EHOSTUNREACH}
    | {errno.ENETUNREACH, errno.ENETDOWN}
)

# What the system says of a mount whose server is away or gone, and of too many open files: it is of no file's making
MOUNT_IS_AWAY = frozenset(
    {errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN}
    | {errno.ENETUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE}
)


def _on_stderr(sentence: str, is_away: bool) -> None:
    say(f"reelmill: {sentence}")


_listener: Listener = _on_stderr


class Truncated(OSError):  # noqa: N818 (it is not an error of the file, but of the answer)
    """A server answered with fewer bytes than it has."""


def is_transient(error: OSError) -> bool:
    """Whether what a storage said may be otherwise in a minute: 5xx, throttling, timeouts, resets, refused
    connections, names that don't resolve. What it denies or does not have is not."""
    if isinstance(error, ConnectionError | TimeoutError | Truncated) or error.errno in _TRANSIENT_ERRNO:
        return True
    text = str(error)
    if (curl := _CURL.search(text)) is not None:
        return curl[1] not in _LASTING_CURL
    if (status := _HTTP_STATUS.search(text)) is not None and _PASSING_STATUS.fullmatch(status[1]):
        return True
    if (code := _CODE.search(text)) is not None:
        return (code[1] or code[2]) in _TRANSIENT_CODES
    return _WORDS.search(text) is not None


def is_denied(error: BaseException) -> bool:
    """Whether a storage denies this one object: its permissions, or an archive it was moved to."""
    return bool(re.search(r"AWS Error (ACCESS_DENIED|INVALID_OBJECT_STATE)|HTTP status 403", str(error)))


def patience_s() -> float:
    """Seconds for which one operation is tried again. Raises UsageError for a bad REELMILL_STORAGE_S."""
    text = os.environ.get(PATIENCE_VARIABLE, "")
    try:
        seconds = float(text or PATIENCE_S)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{PATIENCE_VARIABLE}: a number of seconds, got {text!r}")
    return seconds


def persist(act: Callable[[], T], where: str, *, doing: Doing) -> T:
    """`act()`, again and again while what it raises is transient, for `patience_s` after the first time: what
    takes longer than that by itself, as a large upload may, has more than one try.

    Raises FileNotFoundError as `act` does, and StorageError where storage refuses or stays away; `where` is how the
    user knows the place, without secrets.
    """
    limit_s = patience_s()
    began_s = time.monotonic()
    failed_s: float | None = None  # when it failed first
    announced = False
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            if time.monotonic() < away_until_s:
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            result = act()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise
        except OSError as error:
            if not is_transient(error):
                raise refusal(where, doing, error) from error
            now_s = time.monotonic()
            failed_s = now_s if failed_s is None else failed_s
            left_s = limit_s - (now_s - failed_s)
            if left_s <= 0:
                raise _gave_up(where, limit_s, error) from error
            if not announced and now_s - began_s >= QUIET_S:
                announced = True
                why, left = reason(error), f"{left_s:.0f} s"
                tell(f"{where}: storage does not answer ({why}); trying again for {left}", is_away=True)
            time.sleep(min(left_s, pause_s * random.uniform(0.5, 1)))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        else:
            if announced:
                away_s = time.monotonic() - began_s
                tell(f"{where}: storage answers again after {away_s:.0f} s", is_away=False)
            return result


def tell(sentence: str, *, is_away: bool) -> None:
    """Say that storage is away, or that it is back."""
    _listener(sentence, is_away)


@contextmanager
def telling(listener: Listener) -> Iterator[None]:
    """For the time of the block `listener` hears that storage is away and that it is back, in place of stderr: from
    whatever thread of this process asks for something."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def refusal(where: str, doing: Doing, error: OSError) -> StorageError:
    """What to raise where storage says no."""
    what = {
        "read": "can't read this",
        "write": "can't write here",
        "list": "can't list this",
        "look": "can't look at this",
    }[doing]
    return StorageError(
        f"{where}: {what} ({reason(error)}); check the address, the credentials and their permissions, "
        "then run the same command again"
    )


def _gave_up(where: str, limit_s: float, error: OSError) -> StorageError:
    return StorageError(
        f"{where}: storage did not answer for {limit_s:.0f} s ({reason(error)}); when it is back, "
        "the same command goes on from here"
    )


def reason(error: OSError) -> str:
    """What a storage said, in a few words: no request ids, no second telling."""
    if error.strerror and error.errno:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    text = re.sub(r" ?\(Request ID: [^)]*\)", "", text)
    if (found := re.search(r"AWS Error (.*)", text)) is not None:
        text = re.sub(r"; Details: .*", "", found[1])
        text = re.sub(r": No response body\.?$", "", text)
    return text[:300].rstrip(".")

"""Errors whose text is meant for the user: what happened, where, what to do."""


class ReelmillError(Exception):
    """The job cannot go on. The message is one sentence for the user; the exit status is 1."""


class StorageError(ReelmillError):
    """The dataset's storage can't be written, or a sample in it can't be used: going on is pointless until that is
    mended. The exit status is 1."""


class UsageError(ReelmillError):
    """The command or the config is wrong, and nothing was run. The exit status is 2."""

"""A lock on a file, which falls with the process that holds it, however that ends."""

import errno
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock

UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What filesystems without locks say, some of the network among them; for ENOSYS filelock has a lock of its own."""


def lock(path: Path, timeout: float) -> AbstractContextManager:
    """Takes the lock, waiting for `timeout` seconds, -1: without end; the context releases it. Where the filesystem has
    no locks, nothing is locked. Raises filelock.Timeout where another process holds it, OSError."""
    try:
        return FileLock(path).acquire(timeout=timeout)
    except NotImplementedError:
        return nullcontext()
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return nullcontext()
        raise

"""A lock on an open file. It falls with the process, however that ends."""

from typing import IO

try:
    import fcntl
except ImportError:  # Windows has none of this kind: there two processes do not notice each other
    fcntl = None


def acquire(file: IO, wait: bool = False) -> bool:
    """Locks `file`; False where another process holds it and `wait` is off.

    True, without a lock, where the system or the filesystem (some of the network) has none.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True

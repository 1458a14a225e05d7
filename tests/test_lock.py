"""The lock on a file, on filesystems with and without locks."""

import errno
import fcntl

import pytest
from filelock import Timeout

from model.lock import lock


def test_only_one_holds_it_until_the_end_of_its_context(tmp_path):
    with lock(tmp_path / "lock", timeout=0), pytest.raises(Timeout):
        lock(tmp_path / "lock", timeout=0)
    with lock(tmp_path / "lock", timeout=0):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_on_the_filesystem_nobody_is_kept_out(tmp_path, monkeypatch, code):
    def flock(*args):
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock(tmp_path / "lock", timeout=0), lock(tmp_path / "lock", timeout=0):
        pass
    monkeypatch.setattr(fcntl, "flock", lambda *args: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        lock(tmp_path / "lock", timeout=0)

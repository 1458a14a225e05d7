import pytest

from trainer import lock


def test_a_file_is_locked_by_one_at_a_time_and_free_again_when_closed(tmp_path):
    with (tmp_path / "lock").open("w") as one, (tmp_path / "lock").open("w") as other:
        assert lock.acquire(one)
        assert not lock.acquire(other)
        one.close()
        assert lock.acquire(other, wait=True)


@pytest.mark.parametrize("system", ["without locks", "without fcntl"])
def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch, system):
    def unsupported(*_):
        raise OSError("no locks available")

    if system == "without fcntl":
        monkeypatch.setattr(lock, "fcntl", None)
    else:
        monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with (tmp_path / "lock").open("w") as file:
        assert lock.acquire(file)

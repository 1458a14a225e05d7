"""The folder of the page's uploads: one for this process, swept while it serves, gone with it."""

import asyncio
import logging
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from server.limits import MB
from ui.uploads import KEEP_SECONDS

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOG = logging.getLogger(__name__)

PREFIX, LOCK = "image-classifier-uploads-", "in-use"


class Sweeper:
    """Deletes uploads by age since their last use, the oldest first where they are too many, and parts of uploads that
    were broken off."""

    seconds: float = KEEP_SECONDS
    max_bytes: int = 256 * MB
    max_files: int = 4000
    spared_seconds: float = 60
    """A file this young goes only where there are four times too many: its visitor is waiting for the answer."""
    every: float = 30

    def __init__(self, parent: str | None = None):
        """Makes a folder in `parent` (else where the system has temporary files), and removes those of dead processes
        there. Raises OSError where it cannot."""
        parent = parent or tempfile.gettempdir()
        os.makedirs(parent, exist_ok=True)
        if fcntl:
            for orphan in Path(parent).glob(f"{PREFIX}*"):
                with suppress(OSError):  # BlockingIOError: its process lives
                    remove_orphan(orphan)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
        self.lock = (self.folder / LOCK).open("w")
        if fcntl:
            with suppress(OSError):  # some filesystems of the network have none
                fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.folder.mkdir(exist_ok=True)  # should another process that starts have taken it for an orphan
        self.unseen, self.due = 0, asyncio.Event()

    def stored(self, count: int) -> None:
        """Bytes that came: it does not wait for its next round when they are many."""
        self.unseen += count
        if self.unseen > self.max_bytes // 4:
            self.due.set()

    async def run(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.due.wait(), self.every)
            self.due.clear()
            self.unseen = 0
            try:
                await asyncio.to_thread(self.sweep)
            except Exception:  # it must outlive whatever happens to the folder
                LOG.exception("A round of the upload sweeper failed")

    def sweep(self) -> int:
        """One round; returns how many files it deleted."""
        now, deleted = time.time(), 0
        files = sorted((state.st_mtime, state.st_size, path) for path, state in stored_files(self.folder))
        total, count = sum(size for _, size, _ in files), len(files)
        for changed, size, path in files:
            age, over = now - changed, max(total / self.max_bytes, count / self.max_files)
            part = path.parent == self.folder  # an upload on its way, or one that was broken off
            limit = self.spared_seconds if part or over > 1 else self.seconds
            if age <= limit and over <= 4:
                continue
            with suppress(OSError):
                if path.stat().st_mtime == changed:  # not used, or sent again, since it was looked at
                    path.unlink()
                    total, count, deleted = total - size, count - 1, deleted + 1
            with suppress(OSError):  # not empty
                path.parent.rmdir()
        return deleted

    def remove(self) -> None:
        self.lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_orphan(folder: Path) -> None:
    """Removes a folder of ours whose lock nobody holds: it falls with its process, however that ends. Raises OSError. A
    folder without a lock is just being made; a link, or a file of another kind, is somebody else's trap."""
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def stored_files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone meanwhile
                found.append((Path(path, name), os.lstat(Path(path, name))))
    return [(path, state) for path, state in found if path.name != LOCK or path.parent != folder]

"""The folder of the page's uploads: one for this process, swept while it serves, gone with it."""

import asyncio
import hashlib
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import Timeout
from starlette.datastructures import UploadFile

from model.lock import lock
from ui.uploads import KEEP_SECONDS

LOG = logging.getLogger(__name__)

PREFIX = "image-classifier-uploads-"


class Uploads:
    """Stores uploads, and deletes them by age since their last use, the oldest first where they are too many."""

    seconds: float = KEEP_SECONDS
    max_bytes: int = 256 * 2**20
    max_files: int = 4000
    spared_seconds: float = 60
    """A file this young goes only where there are four times too many: its visitor is waiting for the answer."""
    every: float = 30

    def __init__(self, parent: str | None = None):
        """Makes a folder in `parent` (else where the system has temporary files), with a lock beside it that falls with
        this process, and removes those of dead processes. Raises OSError where it cannot."""
        parent = Path(parent or tempfile.gettempdir())
        parent.mkdir(parents=True, exist_ok=True)
        for orphan in parent.glob(f"{PREFIX}*.lock"):
            if orphan.is_symlink():
                continue  # anybody may have put it there
            with suppress(Timeout, OSError), lock(orphan, timeout=0):
                shutil.rmtree(orphan.with_suffix(""), ignore_errors=True)
                orphan.unlink(missing_ok=True)
        self.folder = parent.resolve() / f"{PREFIX}{secrets.token_hex(8)}"
        self.lock_file, self.held = Path(f"{self.folder}.lock"), ExitStack()
        self.held.enter_context(lock(self.lock_file, timeout=-1))
        self.folder.mkdir(mode=0o700)
        self.unseen = 0

    def store(self, upload: UploadFile) -> str:
        """Where it is kept: in a folder named by its sha256, where gradio would put a copy, too. Raises OSError."""
        folder = self.folder / hashlib.file_digest(upload.file, "sha256").hexdigest()
        name = re.sub(r"[^\w.,\- ]", "", re.split(r"[/\\]", upload.filename or "")[-1])
        path, part = folder / (name[-50:].strip(". ") or "image"), folder / secrets.token_hex(8)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            upload.file.seek(0)
            with part.open("wb") as copy:
                shutil.copyfileobj(upload.file, copy)
            part.replace(path)  # the same file may be in use
        finally:
            part.unlink(missing_ok=True)
        self.unseen += upload.size or 0
        if self.unseen > self.max_bytes // 4:  # it does not wait for the next round
            self.sweep()
        return str(path)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.every)
            try:
                await asyncio.to_thread(self.sweep)
            except Exception:  # it must outlive whatever happens to the folder
                LOG.exception("A round of the upload sweeper failed")

    def sweep(self) -> int:
        """One round; returns how many files it deleted."""
        self.unseen, now, deleted, files = 0, time.time(), 0, []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(OSError):  # gone meanwhile
                    state = os.lstat(path := Path(folder, name))
                    files.append((state.st_mtime, state.st_size, path))
        total, count = sum(size for _, size, _ in files), len(files)
        for changed, size, path in sorted(files):
            over = max(total / self.max_bytes, count / self.max_files)
            if now - changed <= (self.spared_seconds if over > 1 else self.seconds) and over <= 4:
                continue
            with suppress(OSError):  # gone meanwhile, or its folder has another file
                if path.lstat().st_mtime == changed:  # not used, or sent again, since it was looked at
                    path.unlink()
                    total, count, deleted = total - size, count - 1, deleted + 1
                    path.parent.rmdir()
        return deleted

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.held.close()
        self.lock_file.unlink(missing_ok=True)

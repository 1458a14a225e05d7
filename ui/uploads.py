"""What a visitor sends: from the stored file to a picture, nothing but uploads, and none kept for long."""

import atexit
import ctypes
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
from gradio.blocks import Block
from PIL import Image

from model.preprocess import open_limited

MB = 2**20

KEEP_SECONDS = 15 * 60
"""After its last use."""

NO_PICTURE = "No picture was given: upload one as the first input."
NOT_UPLOADED = "Upload the picture itself: web addresses, data URLs and paths on the server are not read."
GONE = (
    f"The uploaded picture is gone: it was kept for {KEEP_SECONDS // 60} minutes after its last use. Upload it again."
)


@contextmanager
def open_upload(upload: object) -> Iterator[Image.Image]:
    """The picture in the file that gradio stored for this visitor, opened by `open_limited`. What is made of it should
    be made inside, and be small: then no number of visitors fills the memory, because no more than ten threads open
    uploads, each with a file of 20 MB at most in its hands.

    `upload` is the raw {"path": ..., "url": ...} of the request. Gradio checks the path only where the request says
    that it is a file ("meta"), so it is checked here too: else a caller could read any picture on the server.
    Raises PictureError for a file that is no picture of use, gr.Error for what is no upload.
    """
    path = upload_path(upload)
    try:
        os.utime(path)  # in use: kept for another while
        with open_limited(path) as picture:
            yield picture
    except (FileNotFoundError, NotADirectoryError):
        raise gr.Error(GONE, print_exception=False) from None


def upload_path(upload: object) -> str:
    """Where it is stored, if it is below the folder for uploads."""
    if not upload:
        raise gr.Error(NO_PICTURE, print_exception=False)
    path = upload.get("path") if isinstance(upload, dict) else None
    if not isinstance(path, str) or not _is_below(path, upload_folder()):
        raise gr.Error(NOT_UPLOADED, print_exception=False)
    return path


def upload_folder() -> Path:
    return Path(gr.utils.get_upload_folder())


def use_own_folder() -> None:
    """Gives gradio a folder for uploads that goes with this process, where GRADIO_TEMP_DIR names none.

    Its default is shared by all programs of the machine. To be called before the page is built: components remember
    the folder. Raises OSError where none can be made.
    """
    if not os.environ.get("GRADIO_TEMP_DIR"):
        folder = tempfile.mkdtemp(prefix="cifar10-page-")
        os.environ["GRADIO_TEMP_DIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


_MOVE_TO_CACHE = Block.async_move_resource_to_block_cache


async def _move_to_cache(self: Block, path: str | Path | None) -> str | None:
    if path is not None and ("://" in str(path) or gr.utils.is_in_or_equal(path, upload_folder())):
        return str(path)
    return await _MOVE_TO_CACHE(self, path)


def leave_inputs_alone() -> None:
    """Keeps gradio, in this whole process, from downloading what a request names by its address, in the place of
    whichever input, with no limit on the size; and from noting for ever the name of each upload that a request says
    there is. It is left to who reads an input to refuse it (`upload_path`).

    For all components: a visitor's session has its own copies of some, which the page never sees.
    """
    Block.async_move_resource_to_block_cache = _move_to_cache


def _is_below(path: str, folder: Path) -> bool:
    """Whether it names something in the folder, there or not, when all links are followed."""
    try:
        if _is_plainly_below(path, str(folder)):
            return True
        file = Path(path).resolve()
        return file.is_relative_to(folder.resolve()) and not file.is_dir() and file != folder.resolve()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, or a circle of links
        return False


def _is_plainly_below(path: str, folder: str) -> bool:
    """Whether it is where gradio stores an upload, FOLDER/NAME/NAME, and neither name is a link. To follow the links of
    every path instead took a third of the time in which a picture is decoded."""
    parent, name = os.path.split(path)
    base, middle = os.path.split(parent)
    if base != folder or {middle, name} & {"", ".", ".."}:
        return False
    try:
        return not os.path.islink(parent) and stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:  # swept: `_is_below` knows where it was
        return False


_STORED = re.compile(r"[0-9a-f]{64}")
"""Folders of gradio's, one for each content."""

_PARTIAL = re.compile(r"tmp[a-z0-9_]{8}")
"""An upload on its way, or one that was broken off."""


@dataclass
class Janitor:
    """Deletes uploads from `folder` by age, and the oldest where they are too many.

    It touches nothing that gradio would not have put there, should a person's GRADIO_TEMP_DIR hold more. `keep()` are
    files that the page itself needs; `forget` is told each path that was deleted.
    """

    folder: Path
    keep: Callable[[], Collection[str]] = tuple
    forget: Callable[[str], None] = lambda path: None
    seconds: float = KEEP_SECONDS
    max_bytes: int = 256 * MB
    max_files: int = 4000
    spared_seconds: float = 60
    """A file this young goes only where there are four times too many: its visitor is waiting for the answer."""
    every: float = 30
    unseen: int = 0
    wake: threading.Event = field(default_factory=threading.Event)
    stopped: bool = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="janitor", daemon=True).start()

    def stop(self) -> None:
        self.stopped = True
        self.wake.set()

    def stored(self, count: int) -> None:
        """Bytes that came: it does not wait for its next round when they are many."""
        self.unseen += count
        if self.unseen > self.max_bytes // 4:
            self.wake.set()

    def _run(self) -> None:
        while not self.stopped:
            self.wake.wait(self.every)
            self.wake.clear()
            self.unseen = 0
            try:
                self.sweep()
                give_memory_back()
            except Exception:  # it must outlive whatever happens to the folder
                traceback.print_exc()

    def sweep(self) -> int:
        """One round; returns how many files it deleted."""
        now, deleted, real = time.time(), 0, os.path.realpath(self.folder)
        kept = {str(self.folder / os.path.relpath(os.path.realpath(path), real)) for path in self.keep()}
        files = sorted(file for file in self._files(now) if file[2] not in kept)
        total, count = sum(size for _, size, _ in files), len(files)
        for changed, size, path in files:
            age, over = now - changed, max(total / self.max_bytes, count / self.max_files)
            too_old = age > self.seconds or over > 4 or (over > 1 and age > self.spared_seconds)
            if too_old and self._delete(path, changed):
                total, count, deleted = total - size, count - 1, deleted + 1
        return deleted

    def _files(self, now: float) -> list[tuple[float, int, str]]:
        """(changed, size, path) of everything that may go; removes folders that stay empty."""
        found = []
        for entry in _entries(self.folder):
            if _PARTIAL.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                found += _stat(entry)
            elif _STORED.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                inside = [known for file in _entries(entry.path) for known in _stat(file)]
                found += inside
                if not inside and all(now - changed > self.spared_seconds for changed, _, _ in _stat(entry)):
                    with suppress(OSError):  # not empty any more
                        os.rmdir(entry.path)
        return found

    def _delete(self, path: str, changed: float) -> bool:
        """Whether it is gone."""
        try:
            if os.lstat(path).st_mtime != changed:
                return False  # used, or sent again, since it was looked at
            os.unlink(path)
        except OSError:  # somebody was faster
            pass
        self.forget(path)
        return True


def give_memory_back() -> None:
    """What the C library keeps of freed memory goes back to the system, and from now on a large block's at once.

    Else glibc keeps, for each thread, as much as its largest picture took. Nothing where there is no glibc.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
        library.mallopt(_MMAP_THRESHOLD, 8 * MB)
        library.mallopt(_TRIM_THRESHOLD, 16 * MB)
        library.malloc_trim(0)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of malloc.h: up to how much free memory at a heap's end is kept, and from what size on a block is none of it. Fixed,
so that they do not adapt to Pillow's blocks of 16 MB; large enough for an ordinary photo, decoded at reduced size:
memory that comes from the system each time, to be cleared by it, costs milliseconds."""


def _entries(folder: str | Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # gone meanwhile, or not made yet
        return []


def _stat(entry: os.DirEntry) -> list[tuple[float, int, str]]:
    try:
        state = entry.stat(follow_symlinks=False)
    except OSError:
        return []
    return [(state.st_mtime, state.st_size, entry.path)]

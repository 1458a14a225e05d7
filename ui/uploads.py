"""What a visitor uploaded: from the file that gradio stored to an image, and nothing but uploads."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from model.preprocess import ImageError, open_limited

KEEP_SECONDS = 15 * 60
"""After its last use."""

NO_IMAGE = "No image was given: upload one as the first input."
NOT_UPLOADED = "Upload the image itself: web addresses, data URLs and paths on the server are not read."
GONE = f"The uploaded image is gone: it was kept for {KEEP_SECONDS // 60} minutes after its last use. Upload it again."


def too_many_images(most: int) -> str:
    return f"Too many images: give {most} at once, or fewer."


@contextmanager
def open_upload(upload: object) -> Iterator[Image.Image]:
    """The image in the file that gradio stored for this visitor; see `model.preprocess.open_limited`.

    `upload` is the {"path": ...} of the request, or None. Raises ImageError, with a sentence for the visitor, for
    whatever is no upload of use, and does not lie below `upload_folder()`.
    """
    if not upload:
        raise ImageError(NO_IMAGE)
    path = upload.get("path") if isinstance(upload, dict) else None
    try:
        inside = isinstance(path, str) and upload_folder().resolve() in Path(path).resolve().parents
    except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, or a circle of links
        inside = False
    if not inside:
        raise ImageError(NOT_UPLOADED)
    try:
        os.utime(path)  # in use: kept for another while
        with open_limited(path) as image:
            yield image
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(GONE) from None


def upload_folder() -> Path:
    """Where gradio stores uploads: https://www.gradio.app/guides/environment-variables, GRADIO_TEMP_DIR."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir(), "gradio"))

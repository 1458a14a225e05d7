"""Decodes one HEIC photo in a process of its own: `python heic.py MAX_PIXELS SIDE < photo.heic > photo.png`.

The size in the header does not bound the work. Within libheif's own limits, which stay on, a file of 5 kB that claims
96 x 96 pixels holds a core for 14 seconds (14 levels of overlays: each doubles the time), and one of 15 kB that claims
64 x 64 takes 0.4 GB (an image of 8000 x 8000 behind it). A process can be limited and stopped, and a crash in the
decoder costs one upload instead of the server.
Exit status: 0 with a PNG, TOO_LARGE with the size as text; anything else: the photo cannot be decoded.
"""

import io
import sys
from contextlib import suppress

TOO_LARGE = 3

MEMORY = 512 * 2**20
"""Address space in bytes. RGBA of 25 million pixels and 10 bits, the worst case, needs 0.4 GB."""

CPU_SECONDS = 4
"""A photo of 24 million pixels takes 1.6."""


def limit_resources() -> None:
    """Windows has none of these: there, only the caller's deadline stops this process."""
    with suppress(ImportError, OSError, ValueError):  # ValueError: a lower limit stands already
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def main(max_pixels: int, side: int) -> None:
    limit_resources()
    from pi_heif import HeifImageFile, options

    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    options.DECODE_THREADS = 1
    image = HeifImageFile(io.BytesIO(sys.stdin.buffer.read()))  # the header of the primary image: 0.3 ms at any size
    if image.width * image.height > max_pixels:
        print(f"{image.width} x {image.height} pixels", end="")
        sys.exit(TOO_LARGE)
    image.load()  # libheif turns it upright; the EXIF orientation must not turn it again, and a PNG without EXIF cannot
    small = image.reduce(max(1, min(image.size) // side))  # the mean of whole blocks of pixels
    small.convert("RGBA" if small.mode == "RGBa" else small.mode).save(sys.stdout.buffer, "PNG", compress_level=1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

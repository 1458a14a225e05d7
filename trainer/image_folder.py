"""A folder of images as a dataset: a sub-folder per class, as `torchvision.datasets.ImageFolder` reads it.

    FOLDER/cats/1.jpg, FOLDER/cats/more/2.png, FOLDER/dogs/...            val and test are split off
    FOLDER/train/cats/..., FOLDER/val/cats/..., FOLDER/test/cats/...      taken as they are; val and test may be missing

Every image goes through `model/preprocess.py`, as on the page. Imports neither torch nor Lightning.
"""

import hashlib
import importlib.util
import json
import os
import time
import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model import schema
from model.artifact import ClassName
from model.cifar10 import DatasetError
from model.preprocess import MAX_BYTES, VERSION, BusyError, ImageError, open_limited, to_square_rgb
from trainer.config import dataset_name

SPLIT_SEED = 0
HELD_OUT = 0.1
"""Fraction of each class that is split off for val, and again for test, where the folder has none."""

MIN_IMAGES = 5
"""Of a class: with fewer, too little is left to learn from."""

MAX_CLASSES = 100
MAX_UNREADABLE = 0.05
"""Fraction of the images. Above it something else is wrong."""

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names of folders above the classes -> part."""

SUFFIXES = frozenset(".jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff .heic .heif .avif".split())
"""A file with one of these that cannot be decoded is an unreadable image; any other is no image."""

SYSTEM_FILES = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
)

CHUNK = 64
"""Images that a thread decodes before it reports."""


@dataclass(frozen=True)
class ImageFolder:
    """Images of all parts, uint8 (N, S, S, 3), their labels, int64 (N,), and the positions of each part, sorted.

    name         of the folder
    digests      sha256 of each image's file
    notes        sentences on what was left out and what looks like a mistake
    unreadable   "path: reason" of each image that could not be decoded
    """

    name: str
    class_names: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    digests: tuple[str, ...]
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    notes: tuple[str, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class File:
    """A file below a class folder; `name` is its path within the folder of images."""

    path: Path
    name: str
    part: str
    class_name: str

    @property
    def is_called_image(self) -> bool:
        return self.path.suffix.lower() in SUFFIXES


@dataclass
class Listing:
    """All files below the class folders, sorted; the class folders' names; what lies elsewhere."""

    files: list[File] = field(default_factory=list)
    class_names: set[str] = field(default_factory=set)
    beside: list[str] = field(default_factory=list)  # images that are in no class folder
    hidden: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Decoded:
    """Of each file: pixels (N, S, S, 3) uint8, the sha256 of its bytes, why it is no image ("" where it is one)."""

    images: np.ndarray
    digests: list[str]
    errors: list[str]


def read_image_folder(
    folder: Path, image_size: int, fit: str, cache_dir: Path | None = None, progress_bar: bool = False
) -> ImageFolder:
    """Reads and splits the folder (see the module's docstring).

    cache_dir   keeps the decoded images in one file there, so that the next call starts at once if nothing changed

    Raises DatasetError, in one sentence that says what to do.
    """
    listing = list_images(folder)
    files = listing.files
    decoded = decode(folder, files, image_size, fit, cache_dir, progress_bar)
    kept = [i for i, error in enumerate(decoded.errors) if not error]
    unreadable = [i for i, error in enumerate(decoded.errors) if error and files[i].is_called_image]
    others = _others(files, kept, unreadable)
    reasons = tuple(f"{files[i].name}: {decoded.errors[i]}" for i in unreadable)
    check_readable(folder, [files[i].name for i in unreadable], [decoded.errors[i] for i in unreadable], len(kept))
    class_names = check_classes(folder, [files[i].class_name for i in kept], listing.class_names, others)
    labels = np.array([class_names.index(files[i].class_name) for i in kept], dtype=np.int64)
    digests = [decoded.digests[i] for i in kept]
    parts = assign_parts([files[i].part for i in kept], labels, digests)
    check_parts(folder, parts, labels, class_names)
    notes = (
        _note("Hidden files and folders passed over", listing.hidden),
        _note("Images and broken links beside the class folders left out", listing.beside),
        _note("Files that are no images passed over", others),
        _note("Unreadable images left out", [files[i].name for i in unreadable]),
        *repeated_content(digests, labels, parts, [files[i].name for i in kept]),
    )
    return ImageFolder(
        name=dataset_name(folder),
        class_names=class_names,
        images=compacted(decoded.images, kept),
        labels=labels,
        digests=tuple(digests),
        **{part: np.flatnonzero(parts == part) for part in ("train", "val", "test")},
        notes=tuple(note for note in notes if note),
        unreadable=reasons,
    )


def compacted(images: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """The images at the positions `kept`, in their order, in the same memory."""
    for to, position in enumerate(kept):
        if to != position:
            images[to] = images[position]
    return images[: len(kept)]


def list_images(folder: Path) -> Listing:
    """Raises DatasetError where there is no folder, no class folder in it, or train/ and test/ among the classes."""
    if not folder.is_dir():
        raise DatasetError(f"--images {folder} is not a folder: name one that has a sub-folder per class")
    found = Listing()
    tops, files = _visible(folder, found)
    parts = [top for top in tops if top.name.lower() in PARTS]
    if not parts or (len(parts) < len(tops) and not any(_visible(part, Listing())[0] for part in parts)):
        _add_classes(found, folder, folder, "train", tops, files)  # a class may be called train, too
        _check_layout(folder, tops)
    else:
        _check_part_names(folder, tops, parts)
        for top in parts:
            _add_classes(found, folder, top, PARTS[top.name.lower()], *_visible(top, found))
        _add_classes(found, folder, folder, "train", [], files)
    if not found.class_names:
        if found.beside:
            raise DatasetError(f"{folder} has images but no class folders: name the folder that has one per class")
        raise DatasetError(f"{folder} is empty: give it a sub-folder of images per class")
    found.files.sort(key=lambda file: (file.part, file.class_name, file.name))
    return found


def _check_layout(folder: Path, tops: Sequence[Path]) -> None:
    below = [{path.name for path in _visible(top, Listing())[0]} for top in tops]
    if len(tops) > 1 and len(below[0]) > 1 and all(names == below[0] for names in below):
        raise DatasetError(
            f"the folders of {folder} all have the sub-folders {_listed(sorted(map(printable, below[0])))}: if those "
            "are the classes, call the folders above them train, val and test"
        )


def _check_part_names(folder: Path, tops: Sequence[Path], parts: Sequence[Path]) -> None:
    if others := [top.name for top in tops if top not in parts]:
        raise DatasetError(
            f"{folder} has {_listed(others)} beside {_listed([part.name for part in parts])}: give it either classes "
            "or train, val and test"
        )
    names = [PARTS[part.name.lower()] for part in parts]
    if "train" not in names or len(set(names)) < len(names):
        raise DatasetError(f"{folder} has {_listed([part.name for part in parts])}: it takes one train, val and test")


def _add_classes(
    found: Listing, folder: Path, above: Path, part: str, classes: Sequence[Path], beside: Sequence[Path]
) -> None:
    def name(path: Path) -> str:
        return printable(path.relative_to(folder).as_posix())

    found.beside += [name(path) for path in beside if path.suffix.lower() in SUFFIXES or not path.exists()]
    for top in classes:
        class_name = unicodedata.normalize("NFC", top.name)  # macOS may have it decomposed
        found.class_names.add(class_name)
        found.files += [File(path, name(path), part, class_name) for path in _walk(top, found)]


def printable(text: str) -> str:
    """On one line, whatever bytes a file name is made of."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _walk(top: Path, found: Listing) -> Iterator[Path]:
    """The files at any depth; through links, but into no folder twice."""
    seen, waiting = set(), [top]
    while waiting:
        folder = waiting.pop()
        if (real := folder.resolve()) not in seen:
            seen.add(real)
            folders, files = _visible(folder, found)
            waiting += folders
            yield from files


def _visible(folder: Path, found: Listing) -> tuple[list[Path], list[Path]]:
    """Sub-folders and files; the names of hidden ones go to `found.hidden`."""
    folders, files = [], []
    try:
        for entry in sorted(folder.iterdir()):
            special = entry.exists() and not (entry.is_dir() or entry.is_file())  # a pipe would be waited for
            if special or entry.name.startswith(".") or entry.name.lower() in SYSTEM_FILES:
                found.hidden.append(printable(entry.name))
            else:
                (folders if entry.is_dir() else files).append(entry)
    except OSError as error:
        raise DatasetError(f"{folder} cannot be read ({error.strerror}): check its permissions") from None
    return folders, files


def decode(
    folder: Path, files: Sequence[File], image_size: int, fit: str, cache_dir: Path | None, progress_bar: bool
) -> Decoded:
    """Every file through `model.preprocess`, on all cores; or what `cache_dir` kept of the same files."""
    cache = cache_dir and cache_dir / f"{dataset_name(folder)}-{image_size}-{fit}-{cache_key(files)[:12]}.npz"
    if cache and (kept := _read_cache(cache)):
        return kept
    images = np.empty((len(files), image_size, image_size, 3), np.uint8)

    def decode_some(start: int) -> list[tuple[str, str]]:
        return [decode_one(files[i].path, fit, images[i]) for i in range(start, min(start + CHUNK, len(files)))]

    from tqdm import tqdm  # comes with Lightning

    outcomes: list[tuple[str, str]] = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,  # Pillow decodes outside the interpreter's lock
        tqdm(total=len(files), desc="Decoding", unit=" images", disable=not progress_bar, leave=False) as bar,
    ):
        for some in pool.map(decode_some, range(0, len(files), CHUNK)):
            outcomes += some
            bar.update(len(some))
    decoded = Decoded(images, [digest for digest, _ in outcomes], [error for _, error in outcomes])
    if cache and all(decoded.digests):  # a file that could not be read may be readable the next time
        _write_cache(cache, decoded)
    return decoded


def decode_one(path: Path, fit: str, out: np.ndarray) -> tuple[str, str]:
    """Fills `out`, uint8 (S, S, 3), as the page would. Returns the sha256 of the file, and why it is no image or ""."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return "", error.strerror or "unreadable"
    digest = hashlib.sha256(data).hexdigest()
    while True:
        try:
            with open_limited(data) as image:
                out[:] = np.asarray(to_square_rgb(image, fit, len(out)))
            return digest, ""
        except BusyError:  # a HEIC photo while others are decoded
            time.sleep(0.1)
        except ImageError as error:
            return digest, str(error)


def cache_key(files: Sequence[File]) -> str:
    """Changes with any file's path, size or time, and with how images are preprocessed."""
    listed = []
    for file in files:
        with suppress(OSError):
            stat = file.path.stat()
            listed.append((file.name, stat.st_size, stat.st_mtime_ns))
    has_heic = importlib.util.find_spec("pi_heif") is not None
    return hashlib.sha256(json.dumps([VERSION, has_heic, listed]).encode()).hexdigest()


def _read_cache(path: Path) -> Decoded | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = Decoded(stored["images"], stored["digests"].tolist(), stored["errors"].tolist())
    except Exception:  # damaged: numpy and zipfile have a dozen kinds
        return None
    whole = found.images.dtype == np.uint8 and len(found.images) == len(found.digests) == len(found.errors)
    return found if whole else None


def _write_cache(path: Path, decoded: Decoded) -> None:
    """As good as it can: a full disk costs the next run its time, not this one its life."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")  # another run may write the same at this moment
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, images=decoded.images, digests=decoded.digests, errors=decoded.errors)
        os.replace(temporary, path)
    with suppress(OSError):
        temporary.unlink()


def check_readable(folder: Path, unreadable: Sequence[str], reasons: Sequence[str], readable: int) -> None:
    if len(unreadable) > MAX_UNREADABLE * (readable + len(unreadable)):
        raise DatasetError(
            f"{len(unreadable):,} of {readable + len(unreadable):,} images in {folder} cannot be read, and at most "
            f"{MAX_UNREADABLE:.0%} are left out: look at {_listed(unreadable)}. The first: {reasons[0]}"
        )


def check_classes(folder: Path, labels: Sequence[str], folders: set[str], others: Sequence[str]) -> tuple[str, ...]:
    """The names in label order. `folders`: also those of class folders that hold no image; `others`: the files that are
    no images."""
    names = tuple(sorted(folders))
    if len(names) == 1:
        raise DatasetError(
            f"{folder} has one class folder, {names[0]}: a classifier needs two or more. Are they in "
            f"{folder / names[0]}?"
        )
    if len(names) > MAX_CLASSES:
        raise DatasetError(f"{folder} has {len(names)} class folders; at most {MAX_CLASSES} are possible")
    for name in names:
        try:
            schema.parse(ClassName, name)
        except schema.Invalid:
            raise DatasetError(
                f"{folder}: rename the class folder {name!r}; a class name has at most 64 printable characters and "
                'none of <>&"`'
            ) from None
    few = [f"{name} ({labels.count(name)})" for name in names if labels.count(name) < MIN_IMAGES]
    if few:
        raise DatasetError(
            f"{folder} has fewer than {MIN_IMAGES} images of {_listed(few)}: add some, or remove the class folder"
            + (f". {len(others):,} files are no images: {_listed(others)}" if others else "")
        )
    return names


def assign_parts(given: Sequence[str], labels: np.ndarray, digests: Sequence[str]) -> np.ndarray:
    """The part of each image. Parts that are not given are split off train: a tenth of each class, at least one image.
    Depends on content and classes alone, never on names or a run's seed. Files with equal content stay together,
    counted for the rarest of their classes; in train, if they are more than a part should get and others are left."""
    parts = np.array(given, dtype=object)
    missing = [part for part in ("val", "test") if part not in given]
    copies: dict[str, list[int]] = {}
    for i in np.flatnonzero(parts == "train"):
        copies.setdefault(digests[i], []).append(int(i))
    counts = np.bincount(labels)
    owner = {digest: min(labels[group], key=lambda label: (counts[label], label)) for digest, group in copies.items()}
    random = np.random.RandomState(SPLIT_SEED)
    for label in np.unique(labels):
        groups = [copies[digest] for digest in sorted(copies) if owner[digest] == label]
        wanted = max(1, round(sum(map(len, groups)) * HELD_OUT))
        shuffled = [groups[i] for i in random.permutation(len(groups))]
        left = deque(sorted(shuffled, key=lambda group: len(group) > wanted))
        for part in missing:
            taken = 0
            while left and taken < wanted and not (taken and len(left[0]) > wanted):
                group = left.popleft()
                parts[group] = part
                taken += len(group)
    return parts


def check_parts(folder: Path, parts: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    for part in ("train", "val", "test"):
        there = set(labels[parts == part].tolist())
        if lacking := [name for label, name in enumerate(class_names) if label not in there]:
            raise DatasetError(
                f"{part} of {folder} has no images of {_listed(lacking)}: each part needs every class (and equal files "
                "stay together)"
            )


def repeated_content(
    digests: Sequence[str], labels: np.ndarray, parts: np.ndarray, names: Sequence[str]
) -> Iterator[str]:
    """Notes on files with equal content that have two classes, or are in two parts."""
    first: dict[str, int] = {}
    relabeled = [names[i] for i, d in enumerate(digests) if labels[first.setdefault(d, i)] != labels[i]]
    yield _note("Warning: images with a copy in another class", relabeled)
    content = {of: {d for d, part in zip(digests, parts, strict=True) if part == of} for of in ("train", "val")}
    for part, before in (("val", "train"), ("test", "train"), ("test", "val")):
        seen = [name for name, d, p in zip(names, digests, parts, strict=True) if p == part and d in content[before]]
        yield _note(f"Warning: {part} images that are in {before} too, so that its accuracy comes out too high", seen)


def _others(files: Sequence[File], *told: Sequence[int]) -> list[str]:
    rest = set(range(len(files))).difference(*told)
    return [files[i].name for i in sorted(rest)]


def _note(what: str, names: Sequence[str]) -> str:
    return f"{what}: {len(names):,} ({_listed(names)})" if names else ""


def _listed(names: Sequence[str]) -> str:
    """The first ten."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")

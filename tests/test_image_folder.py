"""A folder of images: what is read, what is left out and said, how it is split, what is refused."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from model.cifar10 import DatasetError
from model.preprocess import open_image, to_square_rgb
from tests.heic import coded, heic
from tests.image_files import exif
from trainer.image_folder import read_image_folder


def draw(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> Path:
    """An image of noise that differs by `seed`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def fill(folder: Path, classes: dict[str, int], start: int = 0) -> Path:
    """`folder` with so many images in each sub-folder, all different."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            start += 1
            draw(folder / name / f"{i:03}.png", start)
    return folder


def draw_every_kind(folder: Path, color: tuple[int, int, int] = (200, 60, 40)) -> None:
    """Images that are stored otherwise than most: turned, CMYK, transparent, 16 bit, HEIC."""
    image = Image.new("RGB", (50, 20), color)
    image.paste("black", (0, 0, 10, 20))
    image.save(folder / "turned.jpg", exif=exif(6))
    image.convert("CMYK").save(folder / "ink.jpg")
    Image.new("RGBA", (50, 20), (*color, 90)).save(folder / "veil.webp", lossless=True)
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(folder / "z deep.png")
    (folder / "phone.jpg").write_bytes(heic(coded()))


def read(folder: Path, size: int = 32, fit: str = "crop", cache_dir: Path | None = None):
    return read_image_folder(folder, size, fit, cache_dir)


def test_every_image_is_what_the_page_would_make_of_it(tmp_path):
    folder = fill(tmp_path / "photos", {"cats": 20, "dogs": 10})
    draw_every_kind(folder / "dogs")
    oracle = torchvision.datasets.ImageFolder(folder)

    data = read(folder, 48, "pad")

    assert list(data.class_names) == oracle.classes
    assert data.labels.tolist() == oracle.targets
    for pixels, (path, _) in zip(data.images, oracle.samples, strict=True):
        page = to_square_rgb(open_image(path), "pad", 48)
        assert np.array_equal(pixels, np.asarray(page))
    assert sorted([*data.train, *data.val, *data.test]) == list(range(35))
    assert (data.name, data.notes, data.unreadable) == ("photos", (), ())


def test_oddities_are_left_out_and_named(tmp_path):
    folder = fill(tmp_path / "my photos", {"Käfer und Bienen": 25, "dogs": 34})
    draw(folder / "dogs" / "deep" / "er" / "more.png", 1000)
    draw(folder / "dogs" / ".ipynb_checkpoints" / "000-checkpoint.png", 1)
    (folder / "dogs" / "Thumbs.db").write_bytes(b"thumbs")
    (folder / "dogs" / "labels.csv").write_text("a,b")
    (folder / "dogs" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (folder / "dogs" / "empty.PNG").write_bytes(b"")
    Image.open(folder / "dogs" / "000.png").transpose(Image.Transpose.ROTATE_90).save(folder / "dogs" / "p", "PNG")
    os.mkfifo(folder / "dogs" / "pipe.png")
    (folder / "dogs" / "loop").symlink_to(folder / "dogs")
    (folder / "dogs" / "gone.png").symlink_to(folder / "nowhere.png")
    draw(folder / "beside.png", 2000)
    (folder / "lost").symlink_to(folder / "not mounted")
    (folder / "@eaDir").mkdir()

    data = read(folder)

    assert data.class_names == ("Käfer und Bienen", "dogs")
    assert np.bincount(data.labels).tolist() == [25, 36]
    notes = "\n".join(data.notes)
    assert "Hidden files and folders passed over: 4 (@eaDir, .ipynb_checkpoints, Thumbs.db, pipe.png)" in notes
    assert "Images and broken links beside the class folders left out: 2 (beside.png, lost)" in notes
    assert "Files that are no images passed over: 1 (dogs/labels.csv)" in notes
    assert "Unreadable images left out: 3 (dogs/broken.jpg, dogs/empty.PNG, dogs/gone.png)" in notes
    last = np.asarray(to_square_rgb(open_image(folder / "dogs" / "p")))
    assert np.array_equal(data.images[-1], last)  # moved up into the place of what was left out
    assert [line.split(":")[0] for line in data.unreadable] == ["dogs/broken.jpg", "dogs/empty.PNG", "dogs/gone.png"]


def test_any_bytes_may_be_a_file_name(tmp_path):
    folder = fill(tmp_path / "f", {"a": 30, "b": 30})
    (folder / "a" / os.fsdecode(b"bad\xff\nname.png")).write_bytes(b"nothing")
    (note,) = read(folder).notes
    assert note == "Unreadable images left out: 1 (a/bad\\udcff\\nname.png)"


def test_a_decomposed_class_name_is_composed(tmp_path):
    folder = fill(tmp_path / "f", {unicodedata.normalize("NFD", "Käfer"): 6, "dogs": 6})
    assert read(folder).class_names == ("Käfer", "dogs")


def test_a_tenth_of_each_class_is_split_off_twice_whatever_the_names(tmp_path):
    one = read(fill(tmp_path / "one", {"a": 50, "b": 20, "c": 5}))
    for part, counts in (("train", [40, 16, 3]), ("val", [5, 2, 1]), ("test", [5, 2, 1])):
        assert np.bincount(one.labels[getattr(one, part)]).tolist() == counts, part

    renamed = tmp_path / "two"
    for path in sorted((tmp_path / "one").rglob("*.png")):
        target = renamed / path.parent.name / "sub" / f"x{999 - int(path.stem):03}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    two = read(renamed)
    assert {two.digests[i] for i in two.val} == {one.digests[i] for i in one.val}
    assert {two.digests[i] for i in two.test} == {one.digests[i] for i in one.test}


@pytest.mark.parametrize(
    ("given", "val", "test"),
    [
        ({"train": 20}, "train/", "train/"),
        ({"train": 20, "test": 3}, "train/", "test/"),
        ({"Train": 20, "valid": 4}, "valid/", "Train/"),
        ({"train": 20, "validation": 4, "test": 3}, "validation/", "test/"),
    ],
)
def test_parts_that_the_folder_has_are_taken_as_they_are(tmp_path, given, val, test):
    folder = tmp_path / "f"
    for number, (part, count) in enumerate(given.items()):
        fill(folder / part, {"a": count, "b": count}, start=number * 1000)
    data = read(folder)
    for part, images in ((val, data.val), (test, data.test)):
        counts = given.get(part[:-1]) if part[:-1].lower() != "train" else 2
        assert len(images) == 2 * counts
    assert len(data.train) + len(data.val) + len(data.test) == 2 * sum(given.values())


def test_a_class_may_be_called_train(tmp_path):
    assert read(fill(tmp_path / "f", {"cars": 6, "train": 6})).class_names == ("cars", "train")


def test_files_with_equal_content_stay_in_one_part(tmp_path):
    folder = fill(tmp_path / "f", {"a": 20, "b": 20})
    for i in range(20):
        (folder / "a" / f"copy {i}.png").write_bytes((folder / "a" / f"{i:03}.png").read_bytes())
    data = read(folder)
    parts = [{data.digests[i] for i in getattr(data, part)} for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40
    assert data.notes == ()


def test_copies_in_another_class_or_of_one_image_leave_every_part_its_share(tmp_path):
    folder = fill(tmp_path / "f", {"cats": 60, "dogs": 0})
    for name, i, copies in (("cats", 0, 40), *(("dogs", i, 1) for i in range(1, 6))):
        for copy in range(copies):
            shutil.copy(folder / "cats" / f"{i:03}.png", folder / name / f"copy {i} {copy}.png")
    data = read(folder)
    shares = [np.bincount(data.labels[getattr(data, part)]).tolist() for part in ("val", "test")]
    assert all(9 <= cats <= 12 and dogs == 1 for cats, dogs in shares), shares
    (note,) = data.notes
    assert "Warning: images with a copy in another class: 5" in note


def test_likely_mistakes_are_warned_of(tmp_path):
    folder = tmp_path / "f"
    for number, part in enumerate(("train", "val", "test")):
        fill(folder / part, {"a": 20, "b": 20}, start=100 * number)
    (folder / "test" / "a" / "leak.png").write_bytes((folder / "train" / "a" / "003.png").read_bytes())
    (folder / "train" / "b" / "twin.png").write_bytes((folder / "train" / "a" / "004.png").read_bytes())
    (folder / "test" / "b" / "again.png").write_bytes((folder / "val" / "b" / "005.png").read_bytes())
    twin, leak, again = read(folder).notes
    assert "copy in another class: 1 (train/b/twin.png)" in twin
    assert "test images that are in train too, so that its accuracy comes out too high: 1 (test/a/leak.png)" in leak
    assert "test images that are in val too" in again and again.endswith("1 (test/b/again.png)")


def test_the_second_time_nothing_is_decoded_until_a_file_changes(tmp_path):
    folder, cache = fill(tmp_path / "f", {"a": 10, "b": 10}), tmp_path / "runs"
    image, other = folder / "a" / "000.png", draw(tmp_path / "other.png", 777)
    first = read(folder, cache_dir=cache)

    before = image.stat()
    image.write_bytes(other.read_bytes().ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and time: taken for the same file
    assert np.array_equal(read(folder, cache_dir=cache).images, first.images)

    os.utime(image)
    changed = read(folder, cache_dir=cache)
    assert (changed.images != first.images).any(axis=(1, 2, 3)).tolist() == [True] + [False] * 19
    for kept in cache.iterdir():  # damaged: decoded again
        kept.write_bytes(kept.read_bytes()[:-100])
    assert np.array_equal(read(folder, cache_dir=cache).images, changed.images)


def test_what_cannot_be_read_for_a_passing_reason_is_not_remembered(tmp_path):
    folder, cache = fill(tmp_path / "f", {"a": 20, "b": 20}), tmp_path / "runs"
    (folder / "a" / "gone.png").symlink_to(tmp_path / "not mounted.png")
    assert read(folder, cache_dir=cache).unreadable == ("a/gone.png: No such file or directory",)
    assert not cache.exists()
    draw(tmp_path / "not mounted.png", 99)
    assert len(read(folder, cache_dir=cache).images) == 41 and len(list(cache.iterdir())) == 1


def test_two_runs_may_keep_decoded_images_at_once(tmp_path):
    folder, cache = fill(tmp_path / "f", {"a": 10, "b": 10}), tmp_path / "runs"
    read(folder, cache_dir=cache)
    (kept,) = cache.iterdir()
    kept.rename(kept.with_suffix(".tmp"))  # what another process would be writing
    read(folder, cache_dir=cache)
    assert sorted(cache.iterdir()) == [kept, kept.with_suffix(".tmp")]


PETS = {"cats": 9, "dogs": 9}


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "is empty"),
        ({".": 1}, "has images but no class folders: name the folder that has one per class"),
        ({"photos/cats": 9, "photos/dogs": 9}, "one class folder, photos: .* Are they in .*/photos/photos?"),
        ({f"class {i}": 1 for i in range(101)}, "101 class folders"),
        ({"cats": 9, "dogs": 4, "birds": 0}, r"fewer than 5 images of birds \(0\), dogs \(4\)"),
        (PETS | {"<b>": 9}, "rename the class folder '<b>'"),
        ({"test/cats": 9, "test/dogs": 9}, "has test: it takes one train, val and test"),
        ({"train/cats": 9, "train/dogs": 9, "birds": 9}, "has birds beside train"),
        (
            {f"{part}/{name}": 9 for part in ("seg_train", "seg_test") for name in PETS},
            "all have the sub-folders cats, dogs: if those are the classes, call the folders above them train",
        ),
        ({f"{part}/{name}": 9 for part in ("train", "val", "valid") for name in PETS}, "takes one train, val and test"),
        ({"train/cats": 9, "train/dogs": 9, "test/cats": 9}, "test of .* has no images of dogs"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_sentence(tmp_path, counts, words):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetError, match=words) as refused:
        read(fill(tmp_path / "photos", counts))
    assert "\n" not in str(refused.value)


def test_files_of_another_format_are_told_where_images_are_missing(tmp_path):
    for name in PETS:
        (fill(tmp_path / "f", {name: 0}) / name / "0.ppm").write_bytes(b"P6")
    with pytest.raises(
        DatasetError, match=r"fewer than 5 images of cats \(0\), .* 2 files are no images: cats/0.ppm, d"
    ):
        read(tmp_path / "f")


def test_more_than_one_unreadable_image_of_20_is_too_many(tmp_path):
    (fill(tmp_path / "f", PETS) / "cats" / "bad.jpg").write_bytes(b"nothing")
    with pytest.raises(
        DatasetError,
        match="1 of 19 images in .* cannot be read.*: look at cats/bad.jpg. The first: This file is not an",
    ):
        read(tmp_path / "f")
    with pytest.raises(DatasetError, match="is not a folder"):
        read(tmp_path / "f" / "cats" / "bad.jpg")

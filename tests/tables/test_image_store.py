"""Files of images in any store: whole or not there, under names of ours."""

from __future__ import annotations

import os
import resource
import uuid
from collections.abc import Iterator
from io import BytesIO

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from mynth_dagster.errors import DownloadError, TableError
from mynth_dagster.models.batch import Slice
from mynth_dagster.tables.images import ImageStore, stem_of
from mynth_dagster.tables.store import TableStore, temp_name

SLICE = Slice("2026-11-22", "003")
STEM = stem_of("int_abc", 1)
PIXELS_MAX = 1_000_000


class FullDisk(LocalFileSystem):
    """A store of folders on which there is no room left."""

    protocol = "fulldisk"

    def _open(self, path, mode="rb", **options):
        file = super()._open(path, mode, **options)
        if "w" in mode:
            file.write = self._refuse
        return file

    def _refuse(self, _):
        raise OSError(28, "No space left on device")


class Strange(LocalFileSystem):
    """A store that fails in a class of its own."""

    protocol = "strange"

    def _open(self, path, mode="rb", **options):
        raise RuntimeError("NoCredentialsError: unable to locate credentials")


class Folders(LocalFileSystem):
    """A store of folders that is not on this machine."""

    protocol = "folders"


for double in (FullDisk, Strange, Folders):
    fsspec.register_implementation(double.protocol, double, clobber=True)


@pytest.fixture(params=["local", "memory", "folders"])
def store(request, tmp_path) -> ImageStore:
    """On the local disk, in an object store, and in folders elsewhere."""
    roots = {
        "local": str(tmp_path),
        "memory": f"memory://{uuid.uuid4().hex}",
        "folders": f"folders://{tmp_path}",
    }
    kind = Remote if request.param == "folders" else TableStore
    return ImageStore(kind(roots[request.param], "b"))


class Remote(TableStore):
    """A double derives from the local file system and must not pass for it."""

    @property
    def is_local(self) -> bool:
        return False


def picture() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (20, 10), "red").save(buffer, "PNG")
    return buffer.getvalue()


def put(store: ImageStore, content: bytes):
    with store.temp_file(SLICE) as temp:
        for start in range(0, len(content), 50):
            store.write(temp, content[start : start + 50])
        kept = store.verified(temp, SLICE, STEM, PIXELS_MAX)
        store.publish(temp, SLICE, STEM, kept)
    return kept


def names(store: ImageStore) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in store.tables.fs.find(store.tables.root))


def test_a_file_is_there_as_it_was_written(store):
    """Under intent id and index, in its partition's folder, with nothing left beside it."""
    kept = put(store, picture())

    assert (kept.format, kept.width, kept.height, kept.n_bytes) == ("png", 20, 10, len(picture()))
    assert kept.uri.endswith("/b/files/date=2026-11-22/fan_out=003/int_abc-1.png")
    assert store.tables.fs.cat_file(kept.uri) == picture()
    assert names(store) == ["int_abc-1.png"]
    assert list(store.found(SLICE)) == [STEM]
    assert store.adopt(store.found(SLICE)[STEM], PIXELS_MAX) == kept


def test_what_is_not_published_leaves_nothing(store):
    """Neither a name nor a temporary file."""
    with pytest.raises(DownloadError, match="truncated"):
        put(store, picture()[:60])

    assert names(store) == []
    assert store.found(SLICE) == {}


def test_a_second_try_begins_from_nothing(store):
    """Bytes, length and digest of the first are forgotten."""
    with store.temp_file(SLICE) as temp:
        store.write(temp, b"x" * 5000)
        temp.restart()
        store.write(temp, picture())
        kept = store.verified(temp, SLICE, STEM, PIXELS_MAX)

    assert (kept.n_bytes, kept.width) == (len(picture()), 20)


def test_only_names_of_ours_are_found(store):
    """What somebody else put there is left alone."""
    kept = put(store, picture())
    folder = kept.uri.rpartition("/")[0]
    for name in ("notes.txt", "int_abc-1.gif", "int_abc.png", ".int_abc-2.png"):
        store.tables.fs.pipe_file(f"{folder}/{name}", b"x")

    assert list(store.found(SLICE)) == [STEM]


def test_temporary_files_of_the_dead_are_removed(tmp_path):
    """Those of a process that runs are not."""
    store = ImageStore(TableStore(str(tmp_path), "b"))
    folder = tmp_path / "b/files/date=2026-11-22/fan_out=003"
    folder.mkdir(parents=True)
    alive = temp_name()
    dead = alive.replace(f".{os.getpid()}.", ".999999999.")
    for name in (alive, dead):
        (folder / name).write_bytes(b"x")

    store.remove_orphans(SLICE)

    assert [path.name for path in folder.iterdir()] == [alive]


@pytest.fixture
def no_room() -> Iterator[None]:
    """For a moment the system takes no file of more than 64 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_reported_and_leaves_no_part(tmp_path, no_room):
    """On the local disk: no file, no temporary one, and words that say what happened."""
    store = ImageStore(TableStore(str(tmp_path), "b"))

    with pytest.raises(TableError, match="larger than the system allows"):
        put(store, picture())

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_full_disk_elsewhere_is_reported_and_leaves_no_part(tmp_path):
    """Nothing has the file's name, and the words say what happened."""
    store = ImageStore(Remote(f"fulldisk://{tmp_path}", "b"))

    with pytest.raises(TableError, match="the disk is full"):
        put(store, picture())

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_store_may_fail_in_a_class_of_its_own(tmp_path):
    """It is told in one line of words, not by a traceback."""
    store = ImageStore(Remote(f"strange://{tmp_path}", "b"))

    with pytest.raises(TableError, match="NoCredentialsError"):
        put(store, picture())

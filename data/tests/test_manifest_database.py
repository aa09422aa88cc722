"""The manifest's SQLite file on disks that take nothing, and after programs that died."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from data import manifest_database
from data.manifest import Manifest

ROOT = Path(__file__).parents[2]
DIE_AFTER_A_WRITE = """
import os, sys
from pathlib import Path
from data import manifest_database

path = Path(sys.argv[1])
reading = manifest_database.reading(path)
reading.__enter__()  # as long as somebody reads, the log stays beside the manifest
with manifest_database.write(path) as database:
    database.execute("INSERT INTO listened VALUES ('aster', 'a', 1, 'x', NULL)")
os._exit(9)
"""


def listened(path: Path) -> int:
    return manifest_database.read(
        path, lambda database: database.execute("SELECT count(*) FROM listened").fetchone()[0]
    )


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
        while filler.write(bytes(512)):
            pass


@pytest.fixture
def disk(mounted_disk) -> Path:
    return mounted_disk("size=2m")


@pytest.fixture
def manifest(disk: Path) -> Path:
    """A manifest on a small disk, whose last writer died and left its log."""
    path = Manifest(disk, create=True).path
    done = subprocess.run([sys.executable, "-c", DIE_AFTER_A_WRITE, path], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0
    return path


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_read_only_disk_shows_what_was_written_last_even_after_a_crash(manifest, disk, is_restarted):
    if is_restarted:
        manifest.with_name(f"{manifest.name}-shm").unlink()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert listened(manifest) == 1
    with pytest.raises(OSError, match="manifest: "), manifest_database.write(manifest) as database:
        database.execute("DELETE FROM listened")
    assert listened(manifest) == 1


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_full_disk_shows_what_was_written_last_even_after_a_crash(manifest, disk, is_restarted):
    if is_restarted:
        manifest.with_name(f"{manifest.name}-shm").unlink()
    fill(disk)
    assert listened(manifest) == 1
    (disk / "filler").unlink()
    with manifest_database.write(manifest) as database:
        database.execute("INSERT INTO listened VALUES ('aster', 'b', 1, 'x', NULL)")
    assert listened(manifest) == 2


def test_a_full_disk_without_anything_beside_the_manifest_can_be_read(disk):
    path = Manifest(disk, create=True).path
    for beside in disk.glob("manifest.sqlite-*"):
        beside.unlink()
    fill(disk)
    assert listened(path) == 0


def test_a_write_that_fails_changes_nothing(tmp_path):
    path = Manifest(tmp_path, create=True).path
    with pytest.raises(ZeroDivisionError), manifest_database.write(path) as database:
        database.execute("INSERT INTO listened VALUES ('aster', 'a', 1, 'x', NULL)")
        raise ZeroDivisionError
    assert listened(path) == 0


def test_a_read_without_the_side_files_is_repeated_when_somebody_wrote_after_all(tmp_path, monkeypatch):
    path = Manifest(tmp_path, create=True).path
    connect = manifest_database._connect

    def without_side_files(path: Path, how: str) -> sqlite3.Connection:
        if how == "mode=ro":
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return connect(path, how)

    monkeypatch.setattr(manifest_database, "_connect", without_side_files)
    looks = []

    def look(database: sqlite3.Connection) -> int:
        if not looks:
            os.utime(path, ns=(1, 1))  # as a write would
        looks.append(database.execute("SELECT count(*) FROM listened").fetchone()[0])
        return looks[-1]

    assert manifest_database.read(path, look) == 0
    assert looks == [0, 0]
    with pytest.raises(OSError, match="cannot take turns"), manifest_database.reading(path):
        os.utime(path, ns=(2, 2))

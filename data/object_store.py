"""Object storage as a place for a lake: ``push`` copies there what is new, and ``RemoteLake`` reads it from there.

An object has the path of the lake's own file, and files never change: one that is there is right. The manifest goes
last, whole, under a name of its own; ``latest.json`` names it, so a reader sees the lake as it was at the end of one
push, whatever a push that broke off has left. Keys come from the surroundings, as the storage's own tools read them
(AWS_ACCESS_KEY_ID, ~/.aws, a machine's role), never from the URL.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from data import parquet
from data.lake import Lake
from data.manifest import CorruptFile, FileEntry, Manifest

LATEST = "latest.json"
_SCHEMES = ("s3", "gs", "abfs", "file")
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push did: files and bytes copied, files that were there already, objects removed."""

    url: str
    copied: int
    copied_bytes: int
    present: int
    removed: int


class Store:
    """The objects below a URL such as ``s3://bucket/lake``.

    Raises
    ------
    ValueError
        When the URL is none of object storage, or holds a key: URLs are shown and logged.
    """

    def __init__(self, url: str):
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not (parts.netloc or parts.path):
            known = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
            raise ValueError(f"object storage: expected a URL beginning with one of {known} and a place, got {url!r}")
        if parts.username or parts.password:
            raise ValueError("object storage: a URL must not hold keys; set AWS_ACCESS_KEY_ID and its like instead")
        self.url = url.rstrip("/")
        try:
            self._files, base = fs.FileSystem.from_uri(url)
        except pa.ArrowInvalid as error:
            raise ValueError(f"object storage {self.url}: {error}") from error
        self._base = base.rstrip("/")

    def sizes(self) -> dict[str, int]:
        """Bytes of every object, by its path below the URL."""
        selected = fs.FileSelector(self._base, recursive=True, allow_not_found=True)
        found = self._files.get_file_info(selected)
        skipped = len(self._base) + 1
        return {info.path[skipped:]: info.size for info in found if info.is_file}

    def read(self, path: str) -> bytes | None:
        """An object; None where there is none."""
        try:
            with self._files.open_input_stream(f"{self._base}/{path}") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        """Put an object, whole or not at all."""
        self._make_folder(path)
        place = f"{self._base}/{path}"
        # object storage shows an object when it is whole, a folder shows every byte of a file
        draft = f"{place}.part" if isinstance(self._files, fs.LocalFileSystem) else place
        with self._files.open_output_stream(draft) as stream:
            stream.write(content)
        if draft != place:
            self._files.move(draft, place)

    def upload(self, path: str, file: Path) -> None:
        """Put a file's content."""
        self._make_folder(path)
        with file.open("rb") as source, self._files.open_output_stream(f"{self._base}/{path}") as stream:
            while piece := source.read(_COPY_BYTES):
                stream.write(piece)

    def download(self, path: str, file: Path, sha256: str) -> None:
        """Get an object into a file, proven.

        Raises
        ------
        CorruptFile
            When there is none, or it is not what was put there.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        descriptor, draft = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as target:
                try:
                    with self._files.open_input_stream(f"{self._base}/{path}") as stream:
                        while piece := stream.read(_COPY_BYTES):
                            digest.update(piece)
                            target.write(piece)
                except FileNotFoundError as error:
                    raise CorruptFile(f"{self.url}/{path}: the object is missing; push the lake again") from error
            if digest.hexdigest() != sha256:
                found = digest.hexdigest()[:12]
                raise CorruptFile(f"{self.url}/{path}: expected sha256 {sha256[:12]}…, got {found}…; push it again")
            Path(draft).replace(file)
        finally:
            Path(draft).unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """Remove an object."""
        self._files.delete_file(f"{self._base}/{path}")

    def _make_folder(self, path: str) -> None:
        """A local folder has to be there before its files; elsewhere names need none."""
        if isinstance(self._files, fs.LocalFileSystem):
            self._files.create_dir(f"{self._base}/{path}".rsplit("/", 1)[0], recursive=True)


def push(lake: Lake, url: str, tell: Callable[[str, int, int], None] = lambda what, done, total: None) -> Pushed:
    """Copy to the URL what it lacks of the lake, every file proven before it leaves; then show it to readers.

    Interrupted, it leaves the lake there as it was; the next push goes on with what is missing. Files that merging
    has replaced are removed there one push later: a reader may still hold the list that names them.

    Parameters
    ----------
    tell : called with "push", bytes copied and bytes to copy.

    Raises
    ------
    CorruptFile
        When a file of the lake is damaged; what was copied before stays.
    """
    store = Store(url)
    with tempfile.TemporaryDirectory() as folder:
        snapshot = Path(folder) / "manifest.sqlite"
        Manifest(lake.root).snapshot(snapshot)
        listed = Manifest(Path(folder)).files()
        content = snapshot.read_bytes()
    present = store.sizes()
    missing = [entry for entry in listed if present.get(entry.path) != entry.bytes]
    total, copied_bytes = sum(entry.bytes for entry in missing), 0
    tell("push", 0, total)
    for entry in missing:
        parquet.prove(lake.root, entry)
        store.upload(entry.path, lake.root / entry.path)
        copied_bytes += entry.bytes
        tell("push", copied_bytes, total)
    sha256 = hashlib.sha256(content).hexdigest()
    manifest = f"manifests/{sha256}.sqlite"
    store.write(manifest, content)
    before = json.loads(store.read(LATEST) or "{}")
    stale = set(present) - {entry.path for entry in listed} - {manifest, LATEST}
    removed = sorted(stale & set(before.get("stale", ())))
    told = {"manifest": manifest, "sha256": sha256, "stale": sorted(stale.difference(removed))}
    store.write(LATEST, json.dumps(told, indent=1).encode())
    for path in removed:
        store.remove(path)
    return Pushed(
        url=store.url,
        copied=len(missing),
        copied_bytes=copied_bytes,
        present=len(listed) - len(missing),
        removed=len(removed),
    )


class RemoteLake(Lake):
    """The lake that was last pushed to a URL, only read; its files are fetched when they are first needed.

    Parameters
    ----------
    cache : where fetched files are kept, in a folder per URL; None for ``ASTER_CACHE`` or ``~/.cache/aster``.

    Raises
    ------
    LookupError
        When no lake was pushed there.
    """

    def __init__(self, url: str, cache: Path | None = None):
        self._store = Store(url)
        latest = self._store.read(LATEST)
        if latest is None:
            raise LookupError(
                f"no lake at {self._store.url}: expected {LATEST} there; run `aster push` to put one there"
            )
        told = json.loads(latest)
        root = (cache or _default_cache()) / hashlib.sha256(self._store.url.encode()).hexdigest()[:16]
        manifest = root / "manifest.sqlite"
        if not manifest.exists() or hashlib.sha256(manifest.read_bytes()).hexdigest() != told["sha256"]:
            self._store.download(told["manifest"], manifest, told["sha256"])
        super().__init__(root)

    def append_all(self, *_: object, **__: object) -> NoReturn:
        raise ValueError(f"{self._store.url} is only read: write to the lake that was pushed there, and push it again")

    def _trust(self, entries: Sequence[FileEntry]) -> None:
        for entry in entries:
            if parquet.stamp(self.root, entry) != (entry.bytes, entry.modified_ns):
                file = self.root / entry.path
                self._store.download(entry.path, file, entry.sha256)
                os.utime(file, ns=(entry.modified_ns, entry.modified_ns))
        super()._trust(entries)


def _default_cache() -> Path:
    return Path(os.environ.get("ASTER_CACHE") or Path.home() / ".cache" / "aster")

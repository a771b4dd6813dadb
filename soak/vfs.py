"""A SQLite VFS that writes down, in order, what the database does to its disk.

It stands in front of SQLite's own VFS in the very library that the product uses, whose C functions are reached through
ctypes. Only writing, truncating, syncing, creating and deleting pass through Python; the rest stays SQLite's own code.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlite_utils.utils import sqlite3


@dataclass(frozen=True, slots=True)
class Create:
    """A file is there from now on, empty."""

    file: str


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes handed to the operating system; not on disk yet."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file was cut to this many bytes; not on disk yet."""

    file: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync of a file came back: what the log says of it before entry number `since` is on disk."""

    file: str
    since: int


@dataclass(frozen=True, slots=True)
class Delete:
    """A file was deleted; `synced` is whether its folder was synced as well."""

    file: str
    synced: bool


@dataclass(frozen=True, slots=True)
class Promise:
    """Something was answered or sent that rests on this event being on disk."""

    key: str


Entry = Create | Write | Truncate | Sync | Delete | Promise
Log = list[Entry]

FileMethod = CFUNCTYPE(c_int, c_void_p)
WriteMethod = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
TruncateMethod = CFUNCTYPE(c_int, c_void_p, c_int64)
SyncMethod = CFUNCTYPE(c_int, c_void_p, c_int)
OpenMethod = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
DeleteMethod = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)


class IoMethods(ctypes.Structure):
    """What sqlite3.h calls sqlite3_io_methods, version 3."""

    _fields_ = [
        ("version", c_int),
        ("close", FileMethod),
        ("read", c_void_p),
        ("write", WriteMethod),
        ("truncate", TruncateMethod),
        ("sync", SyncMethod),
        ("others", c_void_p * 13),
    ]


class Vfs(ctypes.Structure):
    """What sqlite3.h calls sqlite3_vfs, version 3."""

    _fields_ = [
        ("version", c_int),
        ("file_bytes", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", OpenMethod),
        ("delete", DeleteMethod),
        ("others", c_void_p * 14),
    ]


class File(ctypes.Structure):
    """The start of every sqlite3_file; a VFS keeps what is its own behind it."""

    _fields_ = [("methods", POINTER(IoMethods))]


#: How long a sync takes, so that threads come to share one. The log is the disk here: nothing else has to be on one.
SYNC_SECONDS = 0.001
#: Connections may outlive the recording that they were opened in, and still call these.
_alive: list[object] = []


@dataclass(slots=True)
class Recorder:
    """Puts itself between SQLite and a VFS for the files of one folder."""

    folder: str
    original: Vfs
    address: int
    log: Log = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)
    _there: set[str] = field(default_factory=set)
    _methods: dict[int, IoMethods] = field(default_factory=dict)

    def vfs(self) -> Vfs:
        """A copy of the original that opens and deletes through this recorder."""
        copy = Vfs.from_buffer_copy(self.original)
        copy.name, copy.next = b"recorded", None
        copy.open, copy.delete = OpenMethod(self._open), DeleteMethod(self._delete)
        return copy

    def _open(self, _: int, address: int | None, file: int, flags: int, flags_out: Any) -> int:
        # The path is handed on where it lies: SQLite's own code keeps the pointer.
        result: int = self.original.open(self.address, address, file, flags, flags_out)
        path = ctypes.string_at(address).decode() if address else ""
        if result == 0 and path.startswith(self.folder):
            name = Path(path).name
            if name not in self._there:
                self._there.add(name)
                self.log.append(Create(name))
            self._names[file] = name
            opened = File.from_address(file)
            opened.methods = ctypes.pointer(self._recording(opened.methods))
        return result

    def _delete(self, _: int, path: bytes, folder_synced: int) -> int:
        result: int = self.original.delete(self.address, path, folder_synced)
        name = Path(path.decode()).name
        if result == 0 and name in self._there:
            self._there.remove(name)
            self.log.append(Delete(name, bool(folder_synced)))
        return result

    def _recording(self, methods: Any) -> IoMethods:
        """These methods of a file, with ours in front; made once."""
        key = ctypes.addressof(methods.contents)
        if key not in self._methods:
            copy = IoMethods.from_buffer_copy(methods.contents)
            copy.close = FileMethod(self._close(methods.contents))
            copy.write = WriteMethod(self._write(methods.contents))
            copy.truncate = TruncateMethod(self._truncate(methods.contents))
            copy.sync = SyncMethod(self._sync)
            self._methods[key] = copy
        return self._methods[key]

    def _close(self, methods: IoMethods) -> Callable[[int], int]:
        def close(file: int) -> int:
            self._names.pop(file)
            result: int = methods.close(file)
            return result

        return close

    def _write(self, methods: IoMethods) -> Callable[[int, int, int, int], int]:
        def write(file: int, data: int, size: int, offset: int) -> int:
            self.log.append(Write(self._names[file], offset, ctypes.string_at(data, size)))
            result: int = methods.write(file, data, size, offset)
            return result

        return write

    def _truncate(self, methods: IoMethods) -> Callable[[int, int], int]:
        def truncate(file: int, size: int) -> int:
            self.log.append(Truncate(self._names[file], size))
            result: int = methods.truncate(file, size)
            return result

        return truncate

    def _sync(self, file: int, _: int) -> int:
        since = len(self.log)  # what others write from here on may miss this sync
        time.sleep(SYNC_SECONDS)
        self.log.append(Sync(self._names[file], since))
        return 0


@contextmanager
def recording(folder: Path) -> Iterator[Log]:
    """The log of what is done to the database files of an empty folder, by connections opened in this block."""
    library = sqlite_library()
    address = library.sqlite3_vfs_find(None)
    recorder = Recorder(f"{folder.resolve()}/", Vfs.from_address(address), address)
    vfs = recorder.vfs()
    _alive.extend((recorder, vfs))
    library.sqlite3_vfs_register(ctypes.byref(vfs), 1)
    try:
        yield recorder.log
    finally:
        library.sqlite3_vfs_unregister(ctypes.byref(vfs))
        library.sqlite3_vfs_register(c_void_p(address), 1)


def sqlite_library() -> ctypes.CDLL:
    """The library behind the product's sqlite3 module; raises RuntimeError where its functions cannot be reached."""
    extension = import_module({"sqlite3": "_sqlite3", "pysqlite3": "pysqlite3._sqlite3"}[sqlite3.__name__])
    library = ctypes.CDLL(str(extension.__file__))
    if not hasattr(library, "sqlite3_vfs_find"):
        raise RuntimeError(f"{extension.__file__} hides its SQLite's functions, so that its disk cannot be recorded")
    library.sqlite3_vfs_find.restype = c_void_p
    library.sqlite3_vfs_find.argtypes = [c_char_p]
    return library

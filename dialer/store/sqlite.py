"""SQLite through sqlite-utils: WAL, FULL, one write lock over threads and processes, a connection per thread."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from dialer.errors import ConfigError
from dialer.store import Row, StoreError
from dialer.store.migrations import migrations
from dialer.store.statements import STATEMENTS

#: SQLite before this can lose or corrupt commits when two connections checkpoint a WAL at once.
OLDEST_SQLITE = (3, 51, 3)


class SqliteTx:
    """Statements of one transaction on one connection."""

    __slots__ = ("_execute",)

    def __init__(self, connection: Any) -> None:
        self._execute = connection.execute

    def one(self, statement: str, /, **values: Any) -> Row | None:
        row: Row | None = self._execute(STATEMENTS[statement], values).fetchone()
        return row

    def all(self, statement: str, /, **values: Any) -> list[Row]:
        return list(self._execute(STATEMENTS[statement], values).fetchall())

    def run(self, statement: str, /, **values: Any) -> int:
        return int(self._execute(STATEMENTS[statement], values).rowcount)


class SqliteStore:
    """The default store: one file. `durable=False` (no fsync) is for simulations that end with their process."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        require_new_sqlite(sqlite3.sqlite_version_info)
        self.path = path
        self.durable = durable
        self._mutex = threading.Lock()
        self._local = threading.local()
        self._lock_file: tuple[int, int] = (0, -1)
        _make_private(path)
        with _explained(path), self._locked():
            migrations.apply(self.database())

    def database(self) -> Database:
        """This thread's sqlite-utils database, opened in this process (connections do not survive a fork)."""
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.database = self._connect()
            self._local.pid = os.getpid()
        database: Database = self._local.database
        return database

    @contextmanager
    def write(self) -> Iterator[SqliteTx]:
        """Read and write under the one write lock; raises StoreError when nothing could be written."""
        with _explained(self.path), self._locked():
            connection = self.database().conn
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield SqliteTx(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[SqliteTx]:
        """Reads from one snapshot."""
        with _explained(self.path):
            connection = self.database().conn
            connection.execute("BEGIN")
            try:
                yield SqliteTx(connection)
            finally:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close this thread's connection and the lock file."""
        if getattr(self._local, "pid", None) == os.getpid():
            self._local.database.close()
            self._local.pid = None
        pid, descriptor = self._lock_file
        if pid == os.getpid():
            os.close(descriptor)
            self._lock_file = (0, -1)

    def _connect(self) -> Database:
        connection = sqlite3.connect(str(self.path), timeout=30, check_same_thread=False, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'OFF'}")
        return Database(connection)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, fairly: SQLite's own busy handler lets a waiting writer starve."""
        with self._mutex:
            descriptor = self._lock_descriptor()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _lock_descriptor(self) -> int:
        """Opened per process: a descriptor inherited over a fork would share its lock with the parent."""
        pid, descriptor = self._lock_file
        if pid != os.getpid():
            descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._lock_file = (os.getpid(), descriptor)
        return descriptor


def require_new_sqlite(version: tuple[int, ...]) -> None:
    """Refuse an SQLite library with the WAL corruption bug; raises ConfigError with the fix."""
    if version < OLDEST_SQLITE:
        found, wanted = (".".join(map(str, numbers)) for numbers in (version, OLDEST_SQLITE))
        raise ConfigError(f"SQLite {found} can lose commits (need {wanted} or newer): pip install 'pysqlite3>=0.6'")


def _make_private(path: Path) -> None:
    """Create the folder and the file so that only this user reads them: calls are personal data."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigError(
            f"the store {path} cannot be opened: {error.strerror} (set DIALER_INSTANCE or DIALER_STORE)"
        ) from None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"store {path.name}: {error}") from error

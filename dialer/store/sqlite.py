"""SQLite through sqlite-utils: WAL, every commit on disk, one writer at a time, and one sync for all who wait."""

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

from dialer.crash import crash_point
from dialer.errors import ConfigError
from dialer.store import Row, StoreError
from dialer.store.migrations import migrations
from dialer.store.statements import STATEMENTS

#: SQLite before this can lose or corrupt commits when two connections checkpoint a WAL at once.
OLDEST_SQLITE = (3, 51, 3)
#: Seconds to wait for a file that another program holds: Twilio itself waits 15 for an answer, and then asks again.
BUSY_SECONDS = 6.0
#: Transactions that share one commit at the most.
GROUP_LIMIT = 16


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


class Group:
    """Transactions of several threads that become durable with one commit, or fail together."""

    __slots__ = ("done", "error", "size")

    def __init__(self) -> None:
        self.size = 0
        self.error: BaseException | None = None
        self.done = threading.Event()

    def wait(self) -> None:
        """Until the commit is on disk; raises what it failed with."""
        self.done.wait()
        if self.error is not None:
            raise self.error


class SqliteStore:
    """The default store: one file. `durable=False` (no sync) is for simulations that end with their process.

    Threads of a process write through one connection, one after the other. Whoever finishes while others wait leaves
    the transaction open for the next, and all are answered by the same commit: the sync to disk is what takes long.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        require_new_sqlite(sqlite3.sqlite_version_info)
        self.path = path
        self.durable = durable
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._group: Group | None = None
        self._local = threading.local()
        self._writer: tuple[int, Database] | None = None
        self._lock_file: tuple[int, int] = (0, -1)
        _make_private(path)
        with _explained(path):
            self._lock()
            try:
                migrations.apply(self.database())
            finally:
                self._unlock()

    def database(self) -> Database:
        """This thread's sqlite-utils database, opened in this process (connections do not survive a fork)."""
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.database = self._connect()
            self._local.pid = os.getpid()
        database: Database = self._local.database
        return database

    @contextmanager
    def write(self) -> Iterator[SqliteTx]:
        """Read and write as the only writer; durable once the block is left; raises StoreError, and wrote nothing."""
        with _explained(self.path):
            self._take_turn()
            try:
                connection = self._write_connection()
                group = self._begin(connection)
                try:
                    yield SqliteTx(connection)
                    group.size += 1
                except BaseException:
                    self._undo(connection, group)
                    raise
                finally:
                    if not self._waiting or group.size >= GROUP_LIMIT or not connection.in_transaction:
                        self._commit(connection, group)
            finally:
                self._turn.release()
            group.wait()

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
        """Close this thread's connection, the writing one and the lock file."""
        if getattr(self._local, "pid", None) == os.getpid():
            self._local.database.close()
            self._local.pid = None
        if self._writer and self._writer[0] == os.getpid():
            self._writer[1].close()
            self._writer = None
        pid, descriptor = self._lock_file
        if pid == os.getpid():
            os.close(descriptor)
            self._lock_file = (0, -1)

    def _take_turn(self) -> None:
        with self._counting:
            self._waiting += 1
        self._turn.acquire()
        with self._counting:
            self._waiting -= 1

    def _begin(self, connection: Any) -> Group:
        """Join the open group behind a savepoint, or open one."""
        if self._group is not None:
            try:
                connection.execute("SAVEPOINT member")
            except BaseException:
                self._commit(connection, self._group)
                raise
            return self._group
        self._lock()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._unlock()
            raise
        self._group = Group()
        return self._group

    def _undo(self, connection: Any, group: Group) -> None:
        """Take back what the last member did; an error of the disk may have taken back everybody's."""
        if not connection.in_transaction:
            group.error = StoreError(f"store {self.path.name}: the transaction was rolled back")
        else:
            connection.execute("ROLLBACK TO member" if group.size else "ROLLBACK")

    def _commit(self, connection: Any, group: Group) -> None:
        self._group = None
        try:
            if connection.in_transaction:
                crash_point("store.before_commit")
                connection.execute("COMMIT")
                crash_point("store.after_commit")
        except sqlite3.Error as error:
            group.error = error
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        finally:
            self._unlock()
            group.done.set()

    def _connect(self) -> Database:
        connection = sqlite3.connect(
            str(self.path), timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'OFF'}")
        return Database(connection)

    def _write_connection(self) -> Any:
        if self._writer is None or self._writer[0] != os.getpid():
            self._writer = (os.getpid(), self._connect())
        return self._writer[1].conn

    def _lock(self) -> None:
        """Between processes: SQLite's own busy handler lets a waiting writer starve."""
        pid, descriptor = self._lock_file
        if pid != os.getpid():  # a descriptor inherited over a fork would share its lock with the parent
            descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._lock_file = (os.getpid(), descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(self) -> None:
        fcntl.flock(self._lock_file[1], fcntl.LOCK_UN)


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

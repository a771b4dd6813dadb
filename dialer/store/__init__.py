"""Where the truth is kept: a small protocol, its statements, and SQLite behind it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from dialer.errors import ConfigError, DialerError

Row = Mapping[str, Any]


class StoreError(DialerError):
    """The store is locked, full or down. Nothing was written; the same request may be sent again."""


class Tx(Protocol):
    """One transaction. `statement` names one in `statements.py`; values are bound, never pasted."""

    def one(self, statement: str, /, **values: Any) -> Row | None: ...

    def all(self, statement: str, /, **values: Any) -> list[Row]: ...

    def run(self, statement: str, /, **values: Any) -> int:
        """Run a writing statement and return how many rows it touched."""


class Store(Protocol):
    """What the product needs of a database; raises StoreError, and then nothing was written."""

    def write(self) -> AbstractContextManager[Tx]:
        """One transaction, committed durably at the end of the block, rolled back on an exception."""

    def read(self) -> AbstractContextManager[Tx]:
        """Reads that see one state and never write."""

    def close(self) -> None: ...


def open_store(url: str) -> Store:
    """Open (and bring up to date) the store that a `sqlite:///path` URL names; raises ConfigError or StoreError."""
    from dialer.store.sqlite import SqliteStore

    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path:
        raise ConfigError(f"a {scheme.partition('+')[0][:12]} store is not there yet (use sqlite:///path/to/dialer.db)")
    return SqliteStore(Path(path))

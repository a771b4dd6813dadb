"""An import: a file of any size, read as a stream, and put on the list in one transaction."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dialer import DialerError, Host
from dialer_plugins.do_not_call import lists
from dialer_plugins.do_not_call.lists import BATCH, Incoming, Merged
from dialer_plugins.do_not_call.reading import Bad, Defaults, UnknownLayout, read_rows

#: Bad rows that are told one by one.
TOLD = 1000
Tick = Callable[[int], object]


@dataclass(slots=True)
class Import:
    """What a file came to: its good rows, its bad ones (all counted, the first kept), what it changed of the list.

    `merged` is None when nothing was imported because of the bad rows.
    """

    rows: int = 0
    bad_rows: int = 0
    bad: list[Bad] = field(default_factory=list)
    merged: Merged | None = None

    def add_bad(self, bad: Bad) -> None:
        self.bad_rows += 1
        if len(self.bad) < TOLD:
            self.bad.append(bad)


class _BadRows(Exception):
    """There are bad rows, so nothing is imported."""


def import_file(
    host: Host,
    path: Path,
    whose: tuple[str, str],
    defaults: Defaults,
    *,
    columns: Sequence[str] = (),
    replace: bool = False,
    skip_bad: bool = False,
    encoding: str = "utf-8-sig",
    tick: Tick = lambda bytes_read: None,
) -> Import:
    """Import a file onto a list (`whose`: its workspace and name). Raises DialerError for a file that is no list."""
    result = Import()
    try:
        with path.open("rb") as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as file:
            rows = _watched(read_rows(file, columns, defaults), raw.tell, tick)
            result.merged = lists.merge(host, *whose, _batches(rows, result, skip_bad=skip_bad), replace=replace)
    except _BadRows:
        pass
    except UnknownLayout as error:
        raise DialerError(f"{path.name}: {error}") from None
    except (UnicodeDecodeError, LookupError) as error:
        raise DialerError(f"{path.name} cannot be read as {encoding} ({error}); give --encoding") from None
    except csv.Error as error:
        raise DialerError(f"{path.name} is no CSV ({error}, after {result.rows} rows); nothing was imported") from None
    return result


def _batches(rows: Iterable[Incoming | Bad], result: Import, *, skip_bad: bool) -> Iterator[list[Incoming]]:
    """The good rows; raises _BadRows at the end, when all bad ones are known, unless they are to be skipped."""
    batch: list[Incoming] = []
    for row in rows:
        if isinstance(row, Bad):
            result.add_bad(row)
            continue
        result.rows += 1
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if result.bad and not skip_bad:
        raise _BadRows
    if not result.rows:
        raise UnknownLayout("there is no number in it")
    yield batch


def _watched(rows: Iterable[Incoming | Bad], tell: Callable[[], int], tick: Tick) -> Iterator[Incoming | Bad]:
    """The rows, while `tick` hears how many bytes were read since it heard last."""
    told = 0
    for count, row in enumerate(rows):
        if count % 5000 == 0:
            tick(tell() - told)
            told = tell()
        yield row
    tick(tell() - told)

"""What Dialer lends a plugin: a folder, a database, a clock, a log, and the calls and numbers of a workspace."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dialer.calls import Call, Event
from dialer.errors import PluginError, RetryLater
from dialer.tables import Lent

if TYPE_CHECKING:
    from sqlite_utils import Database

    from dialer.hookspecs import CallEvent
    from dialer.service import Service
    from dialer.twilio import Carrier, RecordingTruth

#: Seconds that a plugin's write waits for another process to finish its own.
BUSY_SECONDS = 5.0
#: Characters of one text of an event's detail, and how many events of its own a plugin may add to a call.
DETAIL_LENGTH, MOST_EVENTS = 1000, 100
#: Seconds after which a recording that is not there yet may be: Twilio writes it after it has told of it.
MEDIA_SECONDS = 15.0


class Host(Lent):
    """A plugin has it as a field, `host: Host = field(default_factory=Host)`, which Dialer fills; it is no setting.

    In a test of the plugin's alone, `Host(folder=tmp_path, clock=lambda: 0.0)` has a database and a time, and no calls.
    """

    def __init__(
        self, name: str = "plugin", *, folder: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.name = name
        self._folder = folder
        self._clock = clock
        self._service: Callable[[], Service] | None = None
        self._local = threading.local()

    def __repr__(self) -> str:
        return f"Host({self.name!r})"

    def attach(self, name: str, folder: Path, service: Callable[[], Service]) -> None:
        """Make it the plugin's part of a running Dialer; a folder that it was made with stays."""
        self.name = name
        self._folder = self._folder or folder
        self._service = service

    @property
    def folder(self) -> Path:
        """The plugin's own folder, instance/plugins/<name>, that only this user reads."""
        if self._folder is None:
            raise PluginError(f"plugin {self.name}: it has no folder outside Dialer; give it Host(folder=...)")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder

    @property
    def log(self) -> logging.Logger:
        """The plugin's log, a part of Dialer's."""
        return logging.getLogger(f"dialer.plugins.{self.name}")

    def clock(self) -> float:
        """The time in epoch seconds, virtual in simulations."""
        return self._service().clock() if self._service else self._clock()

    def database(self) -> Database:
        """The plugin's own SQLite file, for this thread of this process; each statement is a transaction of its own."""
        if getattr(self._local, "pid", None) != os.getpid():  # connections do not survive a fork
            self._local.database = self._open()
            self._local.pid = os.getpid()
        database: Database = self._local.database
        return database

    @contextmanager
    def writing(self) -> Iterator[Database]:
        """The database as its only writer: what is read inside is still true when it is written; all or nothing."""
        database = self.database()
        database.conn.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.conn.execute("COMMIT")
        except BaseException:
            if database.conn.in_transaction:
                database.conn.execute("ROLLBACK")
            raise

    def numbers(self, workspace: str) -> list[str]:
        """The numbers that the workspace may show to customers, the default first."""
        with self._dialer().store.read() as tx:
            return [row["number"] for row in tx.all("numbers", workspace=workspace)]

    def calls(self, workspace: str, *, since: float, agent: str = "") -> list[Call]:
        """The workspace's (and the agent's) calls that were asked for since then, newest first."""
        return self._calls("calls_since", workspace=workspace, agent=agent, since=since)

    def open_calls(self, workspace: str, *, agent: str = "") -> list[Call]:
        """The workspace's (and the agent's) calls that have not ended yet, newest first."""
        return [call for call in self._calls("open_calls_of", workspace=workspace, agent=agent) if not call.over]

    def call(self, workspace: str, call_id: str) -> Call | None:
        """One call of the workspace as it is now; None when it has no such call."""
        from dialer import records

        with self._dialer().store.read() as tx:
            return records.find_call(tx, "call", call_id=call_id, workspace=workspace)

    def events(self, call: Call) -> list[CallEvent]:
        """What happened to the call so far, in the order in which it was stored.

        The first is `call-started`: its detail has what the browser sent along, so it is not to be trusted.
        """
        from dialer import records

        with self._dialer().store.read() as tx:
            rows = tx.all("events_of_call", call_id=call.id, workspace=call.workspace, after=0)
        return [records.told_event(row) for row in rows]

    def add_event(self, call: Call, name: str, detail: Mapping[str, str], key: str = "") -> bool:
        """Put a fact of the plugin's own, <plugin>.<name>, on the call's record, once per key (else once per name).

        False when it stands there already, or when the call is not stored (yet): in hooks before `call_started`.
        Raises ValueError for a text of over 1000 characters, PluginError for the 101st event of a call.
        """
        from dialer import records

        long = [field for field, text in detail.items() if len(text) > DETAIL_LENGTH]
        if long:
            raise ValueError(f"detail {long[0]} has over {DETAIL_LENGTH} characters")
        dialer, source = self._dialer(), f"plugin:{self.name}"
        with dialer.store.write() as tx:
            current, now = records.find_call(tx, "call", call_id=call.id, workspace=call.workspace), dialer.clock()
            if current is None:
                return False
            event = Event("checked", now)
            fact = records.Fact(f"{source}:{call.id}:{key or name}", f"{self.name}.{name}", source, event, detail)
            if records.add_event(tx, current, fact, now) is None:
                return False
            row = tx.one("count_events_of", call_id=call.id, workspace=call.workspace, source=source)
            if row and row["count"] > MOST_EVENTS:  # what was added is taken back
                raise PluginError(f"plugin {self.name} has {MOST_EVENTS} events on {call.id} already")
            return True

    def hang_up(self, call: Call, reason: str) -> None:
        """Ask for the end of the call, for everybody; a call that has ended already is left as it is."""
        from dialer import records

        dialer, source = self._dialer(), f"plugin:{self.name}"
        plugins = dialer.plugins.current()
        with dialer.store.write() as tx:
            current, now = records.find_call(tx, "call", call_id=call.id, workspace=call.workspace), dialer.clock()
            if current is None or current.over:
                return
            event = Event("hang-up", now, by=source, reason=reason)
            fact = records.Fact(f"hang-up:{call.id}:{source}", "hang-up-requested", source, event, {"reason": reason})
            records.record(tx, current, fact, now=now, plugins=plugins)

    def leave_message(self, call: Call, *, say: str = "", play: str = "") -> bool:
        """Have an answering machine hear a text or a sound file (its URL), once per call, and let the agent go.

        False when nobody has answered, or the call has ended.
        """
        from dialer import controls

        try:
            controls.leave_message(self._dialer(), call, by=f"plugin:{self.name}", say=say, play=play)
        except controls.NotNow:
            return False
        return True

    def pause_recording(self, call: Call, key: str = "") -> bool:
        """Have silence in the recording from now on, once per key (else each time); False when not connected."""
        return self._control(call, "recording-pause", key)

    def resume_recording(self, call: Call, key: str = "") -> bool:
        """Record on, once per key (else each time); False when the call is not connected."""
        return self._control(call, "recording-resume", key)

    def recordings(self, call: Call) -> list[RecordingTruth]:
        """What Twilio has recorded of the call; asks it, so it is for told hooks, and raises what the SDK raises."""
        customers = [leg.call_sid for leg in call.legs if leg.role == "customer"]
        return self._carrier(call).recordings(call_sids=customers, conference_sid=call.conference_sid)

    def fetch(self, call: Call, url: str) -> Iterator[bytes]:
        """A file at Twilio's, piece by piece, asked for with the credentials of the call's account.

        Raises RetryLater while there is none (404), what requests and the SDK raise, ValueError for another's URL.
        """
        from dialer.transport import TWILIO_ERRORS

        try:
            yield from self._carrier(call).fetch(url)
        except TWILIO_ERRORS as error:
            if error.status != 404:
                raise
            raise RetryLater(MEDIA_SECONDS, "Twilio has no such file (yet)") from None

    def delete_recording(self, call: Call, recording_sid: str) -> None:
        """Delete a recording at Twilio's; one that is gone already is fine. Raises what the SDK raises."""
        self._carrier(call).delete_recording(recording_sid)

    def _carrier(self, call: Call) -> Carrier:
        return self._dialer().carrier(call.account_sid)

    def _control(self, call: Call, name: str, key: str) -> bool:
        from dialer import controls

        dialer, source = self._dialer(), f"plugin:{self.name}"
        try:
            controls.ask_for(dialer, call, name, by=source, key=f"{source}:{key or dialer.random_hex(8)}")
        except controls.NotNow:
            return False
        return True

    def plugin(self, workspace: str) -> Any:
        """The plugin with the settings of this workspace, for routes and commands, which are those of all."""
        return self._dialer().plugins.current().in_workspace(workspace).instance(self.name)

    def _calls(self, statement: str, **values: object) -> list[Call]:
        from dialer import records

        with self._dialer().store.read() as tx:
            return [call for call in (records.load(tx, row) for row in tx.all(statement, **values)) if call]

    def _dialer(self) -> Service:
        if self._service is None:
            raise PluginError(f"plugin {self.name}: there are no calls outside Dialer")
        return self._service()

    def _open(self) -> Database:
        from sqlite_utils import Database
        from sqlite_utils.utils import sqlite3

        path = self.folder / f"{self.name}.db"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(str(path), timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        connection.row_factory = sqlite3.Row
        use_wal(connection)
        durable = self._service is None or getattr(self._service().store, "durable", True)
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        return Database(connection)


def use_wal(connection: Any) -> None:
    """Switch to WAL; SQLite waits for no lock here, so two that open a new file at once would fail."""
    from sqlite_utils.utils import sqlite3

    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)

"""Power cuts: what the shipped store had on disk at any moment, with what was not synced lost or torn, opened again.

The application is recorded once at full speed; each cut rebuilds the disk as it may have been found after a loss of
power, opens it with the shipped store and asks whether everything that was answered for is there.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

import click
from sqlite_utils import Database

from dialer.signature import signature_of
from dialer.simulator.network import Network
from dialer.store import StoreError
from dialer.store.sqlite import SqliteStore
from soak.inprocess import AGENT, PUBLIC_URL, START, WORKSPACE, Traffic, make_app, make_settings, post, set_up
from soak.vfs import Create, Delete, Log, Promise, Sync, Truncate, Write, recording

SECTOR = 512
MODES = ("drop", "torn")
SET_UP = "the agent and his workspace"
#: Cuts that share one recording, and how many calls are recorded for them, half before a restart.
CUTS_EACH, CALLS_EACH = 100, 40
CONTROL_CUTS = 20


class CarelessStore(SqliteStore):
    """The wrong variant that the harness must catch: commits that are not synced."""

    def _connect(self) -> Database:
        database = super()._connect()
        database.execute("PRAGMA synchronous = NORMAL")
        return database


def record(seed: int, calls: int = CALLS_EACH, store: type[SqliteStore] = SqliteStore) -> Log:
    """The log of a store's first start, of calls, a restart, and calls again."""
    with tempfile.TemporaryDirectory(prefix="dialer-power-") as name, recording(Path(name)) as log:
        traffic = Traffic(Path(name), seed, lambda key: log.append(Promise(key)))
        first = store(Path(name) / "dialer.db")
        set_up(first)
        log.append(Promise(SET_UP))
        traffic.play(first, calls // 2)
        traffic.play(store(Path(name) / "dialer.db"), calls - calls // 2)
    return log


# The disk after the cut.


@dataclass(slots=True)
class DiskFile:
    """A file: what is certainly on disk, and what was done to it since then."""

    content: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, Write | Truncate]] = field(default_factory=list)

    def sync(self, since: int) -> None:
        for number, change in self.unsynced:
            if number < since:
                apply(self.content, change)
        self.unsynced = [one for one in self.unsynced if one[0] >= since]

    def after_cut(self, random: Random, mode: str) -> bytes:
        """What is found afterwards: the content, and of the rest a beginning, or anything."""
        content = bytearray(self.content)
        changes = [change for _, change in self.unsynced]
        for change in beginning(changes, random) if mode == "drop" else torn(changes, random):
            apply(content, change)
        return bytes(content)


def apply(content: bytearray, change: Write | Truncate) -> None:
    """Change a file's content as the disk would: a gap before a write is zeros."""
    size = change.size if isinstance(change, Truncate) else change.offset
    content.extend(bytes(max(0, size - len(content))))
    if isinstance(change, Truncate):
        del content[size:]
    else:
        content[size : size + len(change.data)] = change.data


def beginning(changes: list[Write | Truncate], random: Random) -> list[Write | Truncate]:
    """None of them, or the first ones."""
    return changes[: random.choice((0, random.randint(0, len(changes))))]


def torn(changes: list[Write | Truncate], random: Random) -> Iterator[Write | Truncate]:
    """Some of them, and of some writes only some sectors."""
    kept = random.choice((0.1, 0.5, 0.9))
    for change in changes:
        if random.random() >= kept:
            continue
        if isinstance(change, Write) and random.random() < 0.5:
            yield from sectors(change, random)
        else:
            yield change


def sectors(write: Write, random: Random) -> Iterator[Write]:
    """The sectors of one write that reached the disk: each by a throw of a coin."""
    end = write.offset + len(write.data)
    bounds = [write.offset, *range(write.offset // SECTOR * SECTOR + SECTOR, end, SECTOR), end]
    for start, stop in pairwise(bounds):
        if random.random() < 0.5:
            yield Write(write.file, start, write.data[start - write.offset : stop - write.offset])


def disk_after(log: Log, cut: int, mode: str, seed: int) -> dict[str, bytes]:
    """The files as they may be found when power fails after the first `cut` entries of the log."""
    random = Random(f"{seed} {cut} {mode}")
    files: dict[str, DiskFile] = {}
    deleted: dict[str, DiskFile] = {}  # whose deletion may not have reached the disk
    for number, entry in enumerate(log[:cut]):
        match entry:
            case Create(name):
                files[name] = DiskFile()
                deleted.clear()  # file systems write changes of a folder in order, and at the latest with a sync
            case Delete(name, synced):
                file = files.pop(name)
                if not synced:
                    deleted[name] = file
            case Write() | Truncate():
                files[entry.file].unsynced.append((number, entry))
            case Sync(name, since):
                files[name].sync(since)
                deleted.clear()
    files |= {name: file for name, file in deleted.items() if random.random() < 0.5}
    return {name: file.after_cut(random, mode) for name, file in files.items()}


# What must be true of it.


@dataclass(slots=True)
class Finding:
    """What one cut left: promises that were lost, and whatever else is wrong."""

    lost: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)


def examine(log: Log, cut: int, mode: str, seed: int) -> Finding:
    """Cut the power there, start again, and look."""
    promised = [entry.key for entry in log[:cut] if isinstance(entry, Promise)]
    with tempfile.TemporaryDirectory(prefix="dialer-power-") as name:
        for file, content in disk_after(log, cut, mode, seed).items():
            (Path(name) / file).write_bytes(content)
        try:
            store = SqliteStore(Path(name) / "dialer.db")
        except StoreError as error:
            return Finding(corrupt=[f"does not open: {error}"])
        try:
            return look(store, Path(name), promised)
        finally:
            store.close()


def look(store: SqliteStore, folder: Path, promised: list[str]) -> Finding:
    """Compare an opened store with what was promised."""
    database = store.database()
    verdict = [row[0] for row in database.execute("PRAGMA integrity_check")]
    if verdict != ["ok"]:
        return Finding(corrupt=verdict)
    stored = Counter(row[0] for row in database.execute("SELECT key FROM events NOT INDEXED"))
    stored[SET_UP] = len(list(database.execute("SELECT 1 FROM numbers JOIN agents USING (workspace)")))
    wrong = [f"{key} is stored {count} times" for key, count in stored.items() if count > 1]
    wrong += [f"{what}: {row[0]}" for what, query in HALVES.items() for row in database.execute(query)]
    lost = [key for key in promised if not stored[key]]
    return Finding(lost, wrong + goes_on(store, folder, is_set_up=bool(stored[SET_UP])))


#: What one transaction writes together, by what is missing where it was written by half.
HALVES = {
    "event without its call": "SELECT key FROM events WHERE call_id NOT IN (SELECT id FROM calls)",
    "call without its first event": "SELECT id FROM calls WHERE id NOT IN "
    "(SELECT call_id FROM events WHERE name = 'call-started')",
    "call without its agent's leg": "SELECT id FROM calls WHERE id NOT IN (SELECT call_id FROM legs "
    "WHERE role = 'agent')",
    "call without its intent": "SELECT id FROM calls WHERE id NOT IN (SELECT call_id FROM dial_intents)",
    "event without its leg": "SELECT key FROM events WHERE call_sid <> '' AND call_sid NOT IN "
    "(SELECT call_sid FROM legs)",
    "leg behind its event": "SELECT e.key FROM events e JOIN legs l USING (call_sid) WHERE e.status <> l.status "
    "AND (e.status IN ('completed', 'busy', 'no-answer', 'failed', 'canceled') OR l.status IN ('queued', 'initiated') "
    "AND e.status IN ('ringing', 'in-progress') OR l.status = 'ringing' AND e.status = 'in-progress')",
    "event that the plugin is not owed": "SELECT key FROM events WHERE (name = 'call-started' OR "
    "name LIKE 'participant-%' OR name LIKE 'conference-%') AND id NOT IN (SELECT event_id FROM jobs "
    "WHERE event_id IS NOT NULL)",
    "join without a dial": "SELECT key FROM events WHERE name = 'participant-join' AND role = 'agent' AND "
    "call_id NOT IN (SELECT call_id FROM jobs WHERE kind = 'dial')",
    "dial without its intent": "SELECT e.key FROM events e JOIN dial_intents i USING (call_id) "
    "WHERE e.name = 'dial-sending' AND i.state = 'planned'",
    "intent that the call knows otherwise": "SELECT c.id FROM calls c JOIN dial_intents i ON i.id = c.intent "
    "WHERE i.state <> c.dial",
}


def goes_on(store: SqliteStore, folder: Path, *, is_set_up: bool) -> list[str]:
    """What is wrong with the answer to the next call after the restart."""
    settings = make_settings(Network(START), folder)
    account = settings.accounts[0]
    fields = {"AccountSid": account.sid, "CallSid": f"CA{0xF:032x}", "Caller": f"client:{AGENT}", "To": "+14155550101"}
    url = f"{PUBLIC_URL}/v1/voice/twiml"
    headers = {"X-Twilio-Signature": signature_of(url, fields.items(), account.reveal_tokens()[0])}
    status, _, body = post(make_app(settings, store, lambda: START), url, fields.items(), headers)
    if status == 200 and (b"<Conference" in body or not is_set_up):
        return []
    return [f"the next call of {WORKSPACE} is answered with {status}: {body.decode()}"]


# Many cuts.


@dataclass(slots=True)
class Summary:
    """What came of many cuts; `breaches` has moment and mode of each that broke something."""

    cuts: int = 0
    losing: int = 0
    lost: int = 0
    corrupt: int = 0
    breaches: list[tuple[int, str, Finding]] = field(default_factory=list)

    def add(self, cut: int, mode: str, found: Finding) -> None:
        self.cuts += 1
        self.losing += bool(found.lost)
        self.lost += len(found.lost)
        self.corrupt += bool(found.corrupt)
        if found.lost or found.corrupt:
            self.breaches.append((cut, mode, found))


def cut_often(log: Log, cuts: int, seed: int, summary: Summary) -> None:
    """Cut at random moments of a recording, in each mode by turns."""
    random = Random(seed)
    for number in range(cuts):
        cut, mode = random.randint(0, len(log)), MODES[number % len(MODES)]
        summary.add(cut, mode, examine(log, cut, mode, seed))


def control(seed: int) -> Summary:
    """The same with commits that are not synced: a harness that sees no loss here sees none at all."""
    summary = Summary()
    cut_often(record(seed, store=CarelessStore), CONTROL_CUTS, seed, summary)
    return summary


def figure(found: Summary, careless: Summary) -> str:
    return (
        f"power cuts: {found.cuts}, {found.lost} acknowledged lost, {found.corrupt} corrupt "
        f"(control with synchronous=NORMAL: lost in {careless.losing} of {careless.cuts})"
    )


@click.command()
@click.option("--cuts", default=2000, help="How many.")
@click.option("--seed", default=1, help="Chooses the calls, the moments and what survives.")
@click.option("--replay", type=click.Path(exists=True, path_type=Path), help="A recording that an earlier run kept.")
@click.option("--cut", default=0, help="With --replay: after how many entries of it.")
@click.option("--mode", type=click.Choice(MODES), default="drop", help="With --replay: what becomes of the unsynced.")
def power(cuts: int, seed: int, replay: Path | None, cut: int, mode: str) -> None:
    """Cut the power at random moments: what was acknowledged is there, and nothing is corrupt."""
    if replay:
        found = examine(pickle.loads(replay.read_bytes()), cut, mode, seed)
        click.echo("\n".join([*(f"lost: {key}" for key in found.lost), *found.corrupt]) or "nothing is wrong")
        sys.exit(1 if found.lost or found.corrupt else 0)
    summary = Summary()
    for first in range(0, cuts, CUTS_EACH):
        if not cut_recording(seed + first, min(CUTS_EACH, cuts - first), summary):
            break
        click.echo(f"{summary.cuts} cuts, {summary.lost} acknowledged lost, {summary.corrupt} corrupt")
    careless = control(seed)
    click.echo(f"{figure(summary, careless)}, seed {seed}")
    sys.exit(1 if summary.breaches or not careless.losing else 0)


def cut_recording(seed: int, cuts: int, summary: Summary) -> bool:
    """Cut one recording often; where that breaks something, keep it and say how to see it again."""
    log = record(seed)
    cut_often(log, cuts, seed, summary)
    if summary.breaches:
        kept = Path(tempfile.gettempdir()) / f"dialer-power-{seed}.pickle"
        kept.write_bytes(pickle.dumps(log))  # threads never run the same way twice
        for cut, mode, found in summary.breaches[:5]:
            click.echo(f"{len(found.lost)} lost, {found.corrupt[:1]}: see it again with\n"
                       f"  python -m soak power --replay {kept} --cut {cut} --mode {mode} --seed {seed}")
    return not summary.breaches

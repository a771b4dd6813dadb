"""The tables, as migrations that are applied once and only ever added to."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("dialer")


@migrations()
def m001_tables(db: Database) -> None:
    """The first release. Times are epoch seconds; `call_overview` shows them as a person reads them."""
    for statement in SCHEMA:
        db.execute(statement)


@migrations()
def m002_counters(db: Database) -> None:
    """What is counted as it happens, and the clock by which times were written."""
    for statement in COUNTERS:
        db.execute(statement)


@migrations()
def m003_unanswered(db: Database) -> None:
    """What follows when nobody answers, and messages for machines."""
    for column in ("asks INTEGER", "tries INTEGER", "stay_seconds INTEGER"):
        db.execute(f"ALTER TABLE calls ADD COLUMN {column} NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE calls ADD COLUMN message TEXT NOT NULL DEFAULT ''")


@migrations()
def m004_plugins(db: Database) -> None:
    """What plugins were changed by whom, which fail and rest, and deliveries that wait for one that is off."""
    for statement in PLUGINS:
        db.execute(statement)


SCHEMA = (
    """CREATE TABLE workspaces (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at REAL NOT NULL, disabled_at REAL)""",
    """CREATE TABLE agents (
        identity TEXT PRIMARY KEY, workspace TEXT NOT NULL REFERENCES workspaces(id), name TEXT NOT NULL,
        role TEXT NOT NULL DEFAULT 'agent', created_at REAL NOT NULL, disabled_at REAL)""",
    """CREATE TABLE numbers (
        workspace TEXT NOT NULL REFERENCES workspaces(id), number TEXT NOT NULL, created_at REAL NOT NULL,
        PRIMARY KEY (workspace, number))""",
    """CREATE TABLE keys (
        id TEXT PRIMARY KEY, workspace TEXT NOT NULL REFERENCES workspaces(id), agent TEXT NOT NULL DEFAULT '',
        hash TEXT NOT NULL, scopes TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL, revoked_at REAL)""",
    """CREATE TABLE usage (
        key TEXT NOT NULL, window INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (key, window))""",
    """CREATE TABLE calls (
        id TEXT PRIMARY KEY, workspace TEXT NOT NULL, agent TEXT NOT NULL, direction TEXT NOT NULL,
        to_number TEXT NOT NULL, from_number TEXT NOT NULL, status TEXT NOT NULL, ended_by TEXT NOT NULL,
        reason TEXT NOT NULL, rule TEXT NOT NULL, conference TEXT NOT NULL UNIQUE, conference_sid TEXT NOT NULL,
        account_sid TEXT NOT NULL, dial TEXT NOT NULL, dial_when TEXT NOT NULL, intent TEXT NOT NULL,
        ended_rank INTEGER NOT NULL, ended_at REAL, end_requested_by TEXT NOT NULL, requested_at REAL NOT NULL,
        answered_at REAL, duration INTEGER, deadline REAL, ring_seconds INTEGER NOT NULL, time_limit INTEGER NOT NULL,
        options TEXT NOT NULL, plugins TEXT NOT NULL, twiml TEXT NOT NULL)""",
    "CREATE INDEX calls_by_workspace ON calls (workspace, requested_at)",
    "CREATE INDEX calls_by_deadline ON calls (deadline) WHERE deadline IS NOT NULL",
    """CREATE TABLE legs (
        call_sid TEXT PRIMARY KEY, call_id TEXT NOT NULL REFERENCES calls(id), workspace TEXT NOT NULL,
        account_sid TEXT NOT NULL, conference TEXT NOT NULL, role TEXT NOT NULL, status TEXT NOT NULL,
        joined INTEGER NOT NULL, "left" INTEGER NOT NULL, position INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX legs_by_call ON legs (call_id)",
    """CREATE TABLE dial_intents (
        id TEXT PRIMARY KEY, call_id TEXT NOT NULL REFERENCES calls(id), workspace TEXT NOT NULL,
        account_sid TEXT NOT NULL, state TEXT NOT NULL, call_sid TEXT NOT NULL DEFAULT '',
        attempts INTEGER NOT NULL DEFAULT 0,
        looks INTEGER NOT NULL DEFAULT 0, sent_at REAL, error TEXT NOT NULL DEFAULT '',
        created_at REAL NOT NULL) WITHOUT ROWID""",
    """CREATE UNIQUE INDEX one_live_intent_per_call ON dial_intents (call_id)
        WHERE state IN ('planned', 'sending', 'unknown', 'accepted')""",
    "CREATE INDEX intents_by_account ON dial_intents (account_sid, sent_at)",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY, workspace TEXT NOT NULL, call_id TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL,
        source TEXT NOT NULL, call_sid TEXT NOT NULL, role TEXT NOT NULL, status TEXT NOT NULL, at REAL NOT NULL,
        received_at REAL NOT NULL, payload TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX events_once ON events (call_id, key)",
    """CREATE TABLE verdicts (
        id INTEGER PRIMARY KEY, workspace TEXT NOT NULL, call_id TEXT NOT NULL, plugin TEXT NOT NULL,
        hook TEXT NOT NULL, answer TEXT NOT NULL, milliseconds REAL NOT NULL, error TEXT NOT NULL)""",
    "CREATE INDEX verdicts_by_call ON verdicts (call_id)",
    """CREATE TABLE jobs (
        id INTEGER PRIMARY KEY, workspace TEXT NOT NULL, call_id TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
        call_sid TEXT NOT NULL, plugin TEXT NOT NULL, hook TEXT NOT NULL, event_id INTEGER, status TEXT NOT NULL,
        run_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, result TEXT NOT NULL DEFAULT '',
        created_at REAL NOT NULL, done_at REAL)""",
    "CREATE UNIQUE INDEX jobs_once ON jobs (key) WHERE status IN ('pending', 'doing')",
    "CREATE INDEX jobs_due ON jobs (plugin, run_at) WHERE status IN ('pending', 'doing')",
    "CREATE INDEX jobs_by_call ON jobs (call_id)",
    """CREATE VIEW call_overview AS SELECT c.id, c.workspace, c.agent, c.to_number, c.from_number, c.status, c.ended_by,
        c.reason, datetime(c.requested_at, 'unixepoch') AS requested, datetime(c.answered_at, 'unixepoch') AS answered,
        datetime(c.ended_at, 'unixepoch') AS ended, c.duration, c.conference,
        (SELECT group_concat(l.role || ' ' || l.call_sid || ' ' || l.status, ', ')
            FROM legs l WHERE l.call_id = c.id) AS legs
        FROM calls c ORDER BY c.requested_at DESC""",
)
COUNTERS = (
    """CREATE TABLE counters (
        name TEXT NOT NULL, label TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (name, label)) WITHOUT ROWID""",
    """INSERT INTO counters SELECT 'calls_ended', status, count(*) FROM calls
        WHERE status IN ('completed', 'busy', 'no-answer', 'failed', 'canceled', 'rejected') GROUP BY status""",
    """INSERT INTO counters SELECT 'dials', state, count(*) FROM dial_intents
        WHERE state IN ('accepted', 'rejected', 'absent', 'canceled') GROUP BY state""",
    """CREATE TABLE clock (
        id INTEGER PRIMARY KEY CHECK (id = 1), boot_id TEXT NOT NULL, ahead REAL NOT NULL, noted_at REAL NOT NULL)""",
    "ALTER TABLE legs ADD COLUMN missing_since REAL",
    """CREATE INDEX intents_unseen ON dial_intents (account_sid, sent_at)
        WHERE call_sid = '' AND state IN ('sending', 'unknown', 'absent')""",
    "CREATE INDEX jobs_dead ON jobs (plugin) WHERE status = 'dead'",
)

PLUGINS = (
    """CREATE TABLE plugin_changes (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, who TEXT NOT NULL, via TEXT NOT NULL, workspace TEXT NOT NULL,
        plugin TEXT NOT NULL, what TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL)""",
    "CREATE TABLE plugin_notes (name TEXT PRIMARY KEY, note TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE breakers (
        plugin TEXT NOT NULL, workspace TEXT NOT NULL, failures INTEGER NOT NULL, since REAL NOT NULL,
        opened INTEGER NOT NULL, open_until REAL NOT NULL, reason TEXT NOT NULL,
        PRIMARY KEY (plugin, workspace)) WITHOUT ROWID""",
    "CREATE INDEX jobs_waiting ON jobs (plugin, workspace, run_at) WHERE status = 'waiting'",
)

"""Every statement of the product by name, kept together so that each can be read for its tenant.

Each takes the workspace, or (on webhooks, whose workspace is found through the call) the Twilio account that signed the
request. The dispatcher's own (`due_*`, `*_job`, `overdue_*`, `shift_*`) look across tenants, since it serves them all,
and so do those of the command line (`all_*`, `calls_starting_with`) and of the metrics (`count*`).
"""

from __future__ import annotations

CALL_COLUMNS = [
    "id",
    "workspace",
    "agent",
    "direction",
    "to_number",
    "from_number",
    "status",
    "ended_by",
    "reason",
    "rule",
    "conference",
    "conference_sid",
    "account_sid",
    "dial",
    "dial_when",
    "intent",
    "ended_rank",
    "ended_at",
    "end_requested_by",
    "requested_at",
    "answered_at",
    "duration",
    "deadline",
    "ring_seconds",
    "time_limit",
    "options",
    "plugins",
    "asks",
    "tries",
    "stay_seconds",
    "message",
]
#: What may change after a call was made; the rest of the row is fixed.
CALL_CHANGES = [
    "status",
    "ended_by",
    "reason",
    "rule",
    "conference_sid",
    "dial",
    "ended_rank",
    "ended_at",
    "end_requested_by",
    "answered_at",
    "duration",
    "deadline",
    "to_number",
    "intent",
    "ring_seconds",
    "asks",
    "tries",
    "stay_seconds",
    "message",
]


def _insert(table: str, columns: list[str], tail: str = "") -> str:
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(f":{column}" for column in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({values}) {tail}".strip()


_CALLS = "SELECT " + ", ".join(f"c.{column}" for column in CALL_COLUMNS) + " FROM calls c "
_DUE = "status IN ('pending', 'doing') AND run_at <= :now AND plugin = :plugin"
# Whom a plugin is at work for comes after the others: one workspace's slow receiver must not delay everybody.
_BUSY = (
    "SELECT workspace, count(*) AS busy FROM jobs WHERE status IN ('pending', 'doing') AND status = 'doing' "
    "AND run_at > :now AND run_at <= :lease AND plugin = :plugin AND :plugin != '' GROUP BY workspace"
)
_UNSEEN = "i.call_sid = '' AND i.state IN ('sending', 'unknown', 'absent')"
_VISIBLE = "workspace = :workspace AND (:agent = '' OR agent = :agent)"

STATEMENTS = {
    # calls
    "call": _CALLS + "WHERE c.workspace = :workspace AND c.id = :call_id",
    "call_of_leg": _CALLS
    + "JOIN legs l ON l.call_id = c.id WHERE l.call_sid = :call_sid AND c.account_sid = :account_sid",
    "call_of_intent": _CALLS
    + "JOIN dial_intents i ON i.call_id = c.id WHERE i.id = :intent AND c.account_sid = :account_sid",
    "call_of_conference": _CALLS + "WHERE c.conference = :conference AND c.account_sid = :account_sid",
    "answer_of_leg": "SELECT c.twiml FROM calls c JOIN legs l ON l.call_id = c.id "
    "WHERE l.call_sid = :call_sid AND c.account_sid = :account_sid AND l.role = 'agent'",
    "conference_taken": "SELECT 1 FROM calls WHERE conference = :conference",
    "calls": _CALLS
    + f"WHERE {_VISIBLE} AND (:status = '' OR status = :status) AND (requested_at, id) < (:before, :before_id) "
    "ORDER BY requested_at DESC, id DESC LIMIT :limit",
    "calls_since": _CALLS
    + f"WHERE {_VISIBLE} AND requested_at >= :since ORDER BY requested_at DESC, id DESC",
    "open_calls_of": _CALLS
    + f"WHERE {_VISIBLE} AND deadline IS NOT NULL ORDER BY requested_at DESC, id DESC",
    "add_call": _insert("calls", [*CALL_COLUMNS, "twiml"]),
    "save_call": "UPDATE calls SET options = :options, "
    + ", ".join(f"{column} = :{column}" for column in CALL_CHANGES)
    + " WHERE workspace = :workspace AND id = :id",
    "overdue_calls": "SELECT id, workspace FROM calls WHERE deadline <= :now ORDER BY deadline LIMIT :limit",
    "living_legs": "SELECT l.call_sid, l.account_sid, l.call_id, l.workspace, l.status "
    "FROM calls c CROSS JOIN legs l "  # in this order: from the few open calls to their legs
    "WHERE l.call_id = c.id AND c.deadline IS NOT NULL AND c.status IN ('dialing', 'ringing', 'in-progress') "
    "AND l.status IN ('queued', 'initiated', 'ringing', 'in-progress')",
    "wake_open_calls": "UPDATE calls SET deadline = :now WHERE deadline > :now",
    "wake_jobs": "UPDATE jobs SET run_at = :now "
    # A delivery that was begun twice waits for its lease: its plugin may be what ends the process.
    "WHERE status IN ('pending', 'doing') AND (status = 'doing' AND (plugin = '' OR attempts = 1)"
    " OR status = 'pending' AND plugin = '' AND run_at > :latest)",
    "open_calls": "SELECT count(*) AS open FROM calls WHERE deadline IS NOT NULL",
    # legs
    "legs": 'SELECT call_sid, role, status, joined, "left" FROM legs '
    "WHERE call_id = :call_id AND workspace = :workspace ORDER BY position",
    "save_leg": _insert(
        "legs",
        [
            "call_sid",
            "call_id",
            "workspace",
            "account_sid",
            "conference",
            "role",
            "status",
            "joined",
            "left",
            "position",
        ],
        'ON CONFLICT (call_sid) DO UPDATE SET role = :role, status = :status, joined = :joined, "left" = :left '
        "WHERE call_id = :call_id AND workspace = :workspace",
    ),
    "missing_legs": "SELECT call_sid, missing_since FROM legs "
    "WHERE call_id = :call_id AND workspace = :workspace AND missing_since IS NOT NULL",
    "note_missing": "UPDATE legs SET missing_since = :since WHERE call_sid = :call_sid AND workspace = :workspace",
    "leg_owner": "SELECT call_id FROM legs WHERE call_sid = :call_sid",
    "all_agent_legs": "SELECT call_id, call_sid FROM legs WHERE role = 'agent'",
    "all_event_keys": "SELECT key FROM events",
    "all_intents": "SELECT id, call_id FROM dial_intents",
    "strangers_of_call": "SELECT (SELECT count(*) FROM events WHERE call_id = :call_id AND workspace <> :workspace) "
    "+ (SELECT count(*) FROM legs WHERE call_id = :call_id AND workspace <> :workspace) "
    "+ (SELECT count(*) FROM jobs WHERE call_id = :call_id AND workspace <> :workspace) AS strangers",
    # dial intents
    "add_intent": _insert("dial_intents", ["id", "call_id", "workspace", "account_sid", "state", "created_at"]),
    "intent": "SELECT * FROM dial_intents WHERE id = :intent AND workspace = :workspace",
    "sending_intents": "SELECT * FROM dial_intents WHERE call_sid = '' AND state = 'sending'",
    "intents_of_call": "SELECT * FROM dial_intents WHERE call_id = :call_id AND workspace = :workspace",
    "claim_intent": "UPDATE dial_intents SET state = 'sending', sent_at = :now, attempts = attempts + 1 "
    "WHERE id = :intent AND workspace = :workspace AND state = 'planned'",
    "save_intent": "UPDATE dial_intents SET state = :state, "
    "call_sid = CASE WHEN call_sid = '' THEN :call_sid ELSE call_sid END "
    "WHERE id = :intent AND workspace = :workspace",
    "close_intent": "UPDATE dial_intents SET state = 'done' WHERE id = :intent AND workspace = :workspace",
    "note_intent_error": "UPDATE dial_intents SET error = :error WHERE id = :intent AND workspace = :workspace",
    "count_look": "UPDATE dial_intents SET looks = looks + 1 WHERE id = :intent AND workspace = :workspace",
    "latest_dials": "SELECT sent_at FROM dial_intents "
    "WHERE account_sid = :account_sid AND sent_at > :since AND sent_at <= :now ORDER BY sent_at",
    "same_number_intents": "SELECT count(*) AS others FROM dial_intents i JOIN calls c ON c.id = i.call_id "
    f"WHERE {_UNSEEN} AND i.account_sid = :account_sid AND (i.state <> 'absent' OR i.sent_at > :recent) "
    "AND i.id <> :intent AND c.account_sid = :account_sid AND c.to_number = :to_number",
    # events, verdicts
    "add_event": _insert(
        "events",
        ["workspace", "call_id", "key", "name", "source", "call_sid", "role", "status", "at", "received_at", "payload"],
        "ON CONFLICT DO NOTHING RETURNING id",
    ),
    "event": "SELECT * FROM events WHERE id = :event_id AND workspace = :workspace",
    "events_of_call": "SELECT * FROM events "
    "WHERE call_id = :call_id AND workspace = :workspace AND id > :after ORDER BY id",
    "count_events_of": "SELECT count(*) AS count FROM events "
    "WHERE call_id = :call_id AND workspace = :workspace AND source = :source",
    "add_verdict": _insert("verdicts", ["workspace", "call_id", "plugin", "hook", "answer", "milliseconds", "error"]),
    "verdicts_of_call": "SELECT * FROM verdicts WHERE call_id = :call_id AND workspace = :workspace ORDER BY id",
    # an admin at this machine's command line: all tenants, or one
    "all_calls": _CALLS + "WHERE (:workspace = '' OR workspace = :workspace) AND (:status = '' OR status = :status) "
    "ORDER BY requested_at DESC LIMIT :limit",
    "calls_starting_with": _CALLS + "WHERE substr(c.id, 1, length(:prefix)) = :prefix ORDER BY c.id LIMIT :limit",
    "all_numbers": "SELECT workspace, number, created_at FROM numbers WHERE :workspace = '' OR workspace = :workspace "
    "ORDER BY workspace, created_at, number",
    # jobs
    "add_job": _insert(
        "jobs",
        [
            "workspace",
            "call_id",
            "kind",
            "key",
            "call_sid",
            "plugin",
            "hook",
            "event_id",
            "status",
            "run_at",
            "created_at",
        ],
        "ON CONFLICT DO NOTHING",
    ),
    "due_plugins": "SELECT DISTINCT plugin FROM jobs WHERE status IN ('pending', 'doing') AND run_at <= :now",
    "due_jobs": "UPDATE jobs SET status = 'doing', run_at = :lease, attempts = attempts + 1 WHERE id IN "
    f"(SELECT id FROM jobs LEFT JOIN ({_BUSY}) AS own USING (workspace) WHERE {_DUE} "
    "ORDER BY kind = 'reconcile', busy, run_at LIMIT :limit) RETURNING *",
    "next_job": "SELECT min(run_at) AS run_at FROM jobs WHERE status IN ('pending', 'doing')",
    "finish_job": "UPDATE jobs SET status = :status, result = :result, done_at = :now "
    "WHERE id = :job_id AND status = 'doing'",
    "retry_job": "UPDATE jobs SET status = 'pending', run_at = :run_at, result = :result "
    "WHERE id = :job_id AND status = 'doing'",
    "jobs_of_call": "SELECT * FROM jobs WHERE call_id = :call_id AND workspace = :workspace ORDER BY id",
    # the clock: what the dispatcher has scheduled moves with it, and what others have is due at once
    "kept_clock": "SELECT boot_id, ahead FROM clock",
    "keep_clock": "INSERT INTO clock (id, boot_id, ahead, noted_at) VALUES (1, :boot_id, :ahead, :noted_at) "
    "ON CONFLICT (id) DO UPDATE SET boot_id = :boot_id, ahead = :ahead, noted_at = :noted_at",
    "newest_moment": "SELECT max(coalesce((SELECT received_at FROM events ORDER BY id DESC LIMIT 1), 0), "
    "coalesce((SELECT created_at FROM jobs ORDER BY id DESC LIMIT 1), 0), "
    "coalesce((SELECT noted_at FROM clock), 0)) AS at",
    "shift_jobs": "UPDATE jobs SET run_at = CASE WHEN attempts = 0 THEN :now ELSE run_at + :step END "
    "WHERE status IN ('pending', 'doing')",
    "shift_waiting": "UPDATE jobs SET run_at = run_at + :step WHERE status = 'waiting'",
    "shift_breakers": "UPDATE breakers SET since = since + :step, "
    "open_until = CASE WHEN open_until > 0 THEN open_until + :step ELSE 0 END",
    "shift_intents": f"UPDATE dial_intents AS i SET sent_at = sent_at + :step WHERE {_UNSEEN}",
    "shift_missing": "UPDATE legs SET missing_since = missing_since + :step "
    "WHERE call_id IN (SELECT id FROM calls WHERE deadline IS NOT NULL) AND missing_since IS NOT NULL",
    "note_step": "INSERT INTO events (workspace, call_id, key, name, source, call_sid, role, status, at, received_at, "
    "payload) SELECT workspace, id, 'clock:' || :now, 'clock-set', 'clock', '', '', '', :now, :now, "
    "json_object('step', round(:step, 3)) FROM calls WHERE deadline IS NOT NULL ON CONFLICT DO NOTHING",
    # metrics: indexes of what is open, and counters of what has been
    "count": "INSERT INTO counters (name, label, count) VALUES (:name, :label, 1) "
    "ON CONFLICT (name, label) DO UPDATE SET count = count + 1",
    "counts": "SELECT name, label, count FROM counters ORDER BY name, label",
    "count_open_calls": "SELECT status, count(*) AS count FROM calls WHERE deadline IS NOT NULL GROUP BY status",
    "count_open_dials": "SELECT dial AS state, count(*) AS count FROM calls "
    "WHERE deadline IS NOT NULL AND dial IN ('planned', 'sending', 'unknown') GROUP BY dial",
    "count_pending_jobs": "SELECT plugin, count(*) AS pending, sum(run_at <= :now) AS due, min(run_at) AS oldest "
    "FROM jobs WHERE status IN ('pending', 'doing') GROUP BY plugin",
    "count_waiting_jobs": "SELECT plugin, count(*) AS count FROM jobs WHERE status = 'waiting' GROUP BY plugin",
    "count_resting_plugins": "SELECT plugin, sum(open_until > :now) AS count FROM breakers GROUP BY plugin",
    "count_dead_jobs": "SELECT plugin, count(*) AS count FROM jobs WHERE status = 'dead' GROUP BY plugin",
    "count_events": "SELECT max(id) AS count FROM events",
    # deliveries to plugins
    "breaker": "SELECT * FROM breakers WHERE plugin = :plugin AND workspace = :workspace",
    "save_breaker": _insert(
        "breakers",
        ["plugin", "workspace", "failures", "since", "opened", "open_until", "reason"],
        "ON CONFLICT (plugin, workspace) DO UPDATE SET failures = :failures, since = :since, opened = :opened, "
        "open_until = :open_until, reason = :reason",
    ),
    "probe_breaker": "UPDATE breakers SET open_until = :longest "
    "WHERE plugin = :plugin AND workspace = :workspace AND open_until = :until",
    "close_breaker": "DELETE FROM breakers WHERE plugin = :plugin AND workspace = :workspace",
    "end_rest": "UPDATE jobs SET run_at = :now WHERE plugin = :plugin AND workspace = :workspace "
    "AND status = 'pending' AND result LIKE :resting",
    "hold_job": "UPDATE jobs SET status = :status, run_at = :run_at, result = :result, attempts = attempts - 1 "
    "WHERE id = :job_id AND status = 'doing'",
    "wake_deliveries": "UPDATE jobs SET status = 'pending', run_at = :now "
    "WHERE plugin = :plugin AND workspace = :workspace AND status = 'waiting'",
    "bury_deliveries": "UPDATE jobs SET status = 'dead', result = :result, done_at = :now "
    "WHERE plugin = :plugin AND workspace = :workspace AND status = 'waiting' AND run_at <= :now",
    "waiting_for_plugins": "SELECT plugin, workspace, min(run_at) AS run_at FROM jobs WHERE status = 'waiting' "
    "GROUP BY plugin, workspace",
    "all_breakers": "SELECT * FROM breakers ORDER BY plugin, workspace",
    "all_delivery": "SELECT * FROM jobs WHERE id = :job_id AND kind = 'deliver'",
    "all_deliveries": "SELECT j.*, e.name AS event FROM jobs j LEFT JOIN events e ON e.id = j.event_id "
    "WHERE j.kind = 'deliver' AND (:workspace = '' OR j.workspace = :workspace) "
    "AND (:plugin = '' OR j.plugin = :plugin) "
    "AND (:status = '' AND (j.status IN ('dead', 'waiting') OR j.status IN ('pending', 'doing') AND j.result <> '') "
    "OR j.status = :status) AND j.created_at >= :since ORDER BY j.id DESC LIMIT :limit",
    "replay_delivery": "UPDATE jobs SET status = 'pending', attempts = 0, run_at = :now, done_at = NULL "
    "WHERE id = :job_id AND kind = 'deliver' AND status IN ('dead', 'waiting')",
    "replay_deliveries": "UPDATE jobs SET status = 'pending', attempts = 0, run_at = :now, done_at = NULL "
    "WHERE kind = 'deliver' AND status IN ('dead', 'waiting') AND created_at >= :since "
    "AND (:plugin = '' OR plugin = :plugin) AND (:workspace = '' OR workspace = :workspace)",
    # plugins: for an admin
    "add_plugin_change": _insert(
        "plugin_changes", ["at", "who", "via", "workspace", "plugin", "what", "before", "after"]
    ),
    "plugin_changes": "SELECT * FROM plugin_changes WHERE (:plugin = '' OR plugin = :plugin) "
    "AND (:workspace = '' OR workspace = :workspace) ORDER BY id DESC LIMIT :limit",
    "plugin_note": "SELECT note FROM plugin_notes WHERE name = :name",
    "save_plugin_note": "INSERT INTO plugin_notes (name, note) VALUES (:name, :note) "
    "ON CONFLICT (name) DO UPDATE SET note = :note",
    "plugin_answers": "SELECT v.plugin, count(*) AS asked, sum(v.error <> '') AS failed, "
    "round(avg(v.milliseconds), 1) AS milliseconds, "
    "max(CASE WHEN v.error <> '' THEN v.id END) AS worst, max(v.id) AS last FROM verdicts v "
    "WHERE v.id > (SELECT max(id) FROM verdicts) - :latest "
    "AND (:workspace = '' OR v.workspace = :workspace) GROUP BY v.plugin",
    "plugin_failure": "SELECT v.error, c.requested_at AS at FROM verdicts v JOIN calls c ON c.id = v.call_id "
    "WHERE v.id = :verdict",
    "plugin_deliveries": "SELECT plugin, status, count(*) AS count, min(run_at) AS run_at, "
    "max(result LIKE 'failed%') AS failed FROM jobs "
    "WHERE kind = 'deliver' AND status IN ('dead', 'waiting', 'pending', 'doing') "
    "AND (:workspace = '' OR workspace = :workspace) GROUP BY plugin, status",
    # who may ask
    "workspaces": "SELECT * FROM workspaces ORDER BY id",
    "workspace": "SELECT * FROM workspaces WHERE id = :workspace",
    "add_workspace": _insert("workspaces", ["id", "name", "created_at"], "ON CONFLICT DO NOTHING"),
    "disable_workspace": "UPDATE workspaces SET disabled_at = :now WHERE id = :workspace AND disabled_at IS NULL",
    "agent": "SELECT a.*, w.disabled_at AS workspace_disabled_at FROM agents a JOIN workspaces w ON w.id = a.workspace "
    "WHERE a.identity = :identity",
    "agents": "SELECT * FROM agents WHERE :workspace = '' OR workspace = :workspace ORDER BY workspace, identity",
    "add_agent": _insert("agents", ["identity", "workspace", "name", "role", "created_at"], "ON CONFLICT DO NOTHING"),
    "disable_agent": "UPDATE agents SET disabled_at = :now WHERE identity = :identity AND disabled_at IS NULL",
    "numbers": "SELECT number FROM numbers WHERE workspace = :workspace ORDER BY created_at, number",
    "add_number": _insert("numbers", ["workspace", "number", "created_at"], "ON CONFLICT DO NOTHING"),
    "remove_number": "DELETE FROM numbers WHERE workspace = :workspace AND number = :number",
    "key": "SELECT k.*, w.disabled_at AS workspace_disabled_at, a.disabled_at AS agent_disabled_at FROM keys k "
    "JOIN workspaces w ON w.id = k.workspace LEFT JOIN agents a ON a.identity = k.agent WHERE k.id = :key_id",
    "operator_key": "SELECT *, NULL AS workspace_disabled_at, NULL AS agent_disabled_at FROM keys "
    "WHERE id = :key_id AND workspace = ''",
    "keys": "SELECT id, workspace, agent, scopes, created_at, expires_at, revoked_at FROM keys "
    "WHERE :workspace = '' OR workspace = :workspace ORDER BY created_at",
    "add_key": _insert("keys", ["id", "workspace", "agent", "hash", "scopes", "created_at", "expires_at"]),
    "revoke_key": "UPDATE keys SET revoked_at = :now WHERE id = :key_id AND revoked_at IS NULL",
    "uses": "SELECT count FROM usage WHERE key = :key AND window = :window",
    "count_use": "INSERT INTO usage (key, window, count) VALUES (:key, :window, 1) "
    "ON CONFLICT (key, window) DO UPDATE SET count = count + 1 RETURNING count",
    "forget_use": "DELETE FROM usage WHERE window < :window",
}

"""Every statement of the product by name, kept together so that each can be read for its tenant.

Each takes the workspace, or (on webhooks, whose workspace is found through the call) the Twilio account that signed the
request. The dispatcher's own (`due_*`, `*_job`, `overdue_*`) look across tenants, since it serves them all, and so do
those of the command line (`all_*`, `calls_starting_with`).
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
]


def _insert(table: str, columns: list[str], tail: str = "") -> str:
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(f":{column}" for column in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({values}) {tail}".strip()


_CALLS = "SELECT " + ", ".join(f"c.{column}" for column in CALL_COLUMNS) + " FROM calls c "
_DUE = "status IN ('pending', 'doing') AND run_at <= :now AND plugin = :plugin"
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
    "add_call": _insert("calls", [*CALL_COLUMNS, "twiml"]),
    "save_call": "UPDATE calls SET "
    + ", ".join(f"{column} = :{column}" for column in CALL_CHANGES)
    + " WHERE workspace = :workspace AND id = :id",
    "overdue_calls": "SELECT id, workspace FROM calls WHERE deadline <= :now ORDER BY deadline LIMIT :limit",
    "talking_legs": "SELECT l.call_sid, l.account_sid, l.call_id, l.workspace "
    "FROM legs l JOIN calls c ON c.id = l.call_id "
    "WHERE c.deadline IS NOT NULL AND c.status = 'in-progress' AND l.status = 'in-progress'",
    "wake_call": "UPDATE calls SET deadline = :now WHERE id = :call_id AND workspace = :workspace AND deadline > :now",
    "wake_open_calls": "UPDATE calls SET deadline = :now WHERE deadline > :now",
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
        'ON CONFLICT (call_sid) DO UPDATE SET status = :status, joined = :joined, "left" = :left '
        "WHERE call_id = :call_id AND workspace = :workspace",
    ),
    "leg_owner": "SELECT call_id FROM legs WHERE call_sid = :call_sid",
    "all_agent_legs": "SELECT call_id, call_sid FROM legs WHERE role = 'agent'",
    "all_event_keys": "SELECT key FROM events",
    "strangers_of_call": "SELECT (SELECT count(*) FROM events WHERE call_id = :call_id AND workspace <> :workspace) "
    "+ (SELECT count(*) FROM legs WHERE call_id = :call_id AND workspace <> :workspace) "
    "+ (SELECT count(*) FROM jobs WHERE call_id = :call_id AND workspace <> :workspace) AS strangers",
    # dial intents
    "add_intent": _insert("dial_intents", ["id", "call_id", "workspace", "account_sid", "state", "created_at"]),
    "intent": "SELECT * FROM dial_intents WHERE id = :intent AND workspace = :workspace",
    "intents_of_call": "SELECT * FROM dial_intents WHERE call_id = :call_id AND workspace = :workspace",
    "claim_intent": "UPDATE dial_intents SET state = 'sending', sent_at = :now, attempts = attempts + 1 "
    "WHERE id = :intent AND workspace = :workspace AND state = 'planned'",
    "save_intent": "UPDATE dial_intents SET state = :state, "
    "call_sid = CASE WHEN call_sid = '' THEN :call_sid ELSE call_sid END "
    "WHERE id = :intent AND workspace = :workspace",
    "note_intent_error": "UPDATE dial_intents SET error = :error WHERE id = :intent AND workspace = :workspace",
    "count_look": "UPDATE dial_intents SET looks = looks + 1 WHERE id = :intent AND workspace = :workspace",
    "latest_dials": "SELECT sent_at FROM dial_intents "
    "WHERE account_sid = :account_sid AND sent_at > :since AND sent_at <= :now ORDER BY sent_at",
    "same_number_intents": "SELECT count(*) AS others FROM dial_intents i JOIN calls c ON c.id = i.call_id "
    "WHERE c.account_sid = :account_sid AND c.to_number = :to_number AND i.id <> :intent "
    "AND (i.state IN ('sending', 'unknown') OR i.state = 'absent' AND i.sent_at > :recent) AND i.call_sid = ''",
    # events, verdicts
    "add_event": _insert(
        "events",
        ["workspace", "call_id", "key", "name", "source", "call_sid", "role", "status", "at", "received_at", "payload"],
        "ON CONFLICT DO NOTHING RETURNING id",
    ),
    "event": "SELECT * FROM events WHERE id = :event_id AND workspace = :workspace",
    "events_of_call": "SELECT * FROM events "
    "WHERE call_id = :call_id AND workspace = :workspace AND id > :after ORDER BY id",
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
    f"(SELECT id FROM jobs WHERE {_DUE} ORDER BY kind = 'reconcile', run_at LIMIT :limit) RETURNING *",
    "next_job": "SELECT min(run_at) AS run_at FROM jobs WHERE status IN ('pending', 'doing')",
    "finish_job": "UPDATE jobs SET status = :status, result = :result, done_at = :now "
    "WHERE id = :job_id AND status = 'doing'",
    "retry_job": "UPDATE jobs SET status = 'pending', run_at = :run_at, result = :result "
    "WHERE id = :job_id AND status = 'doing'",
    "jobs_of_call": "SELECT * FROM jobs WHERE call_id = :call_id AND workspace = :workspace ORDER BY id",
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
    "keys": "SELECT id, workspace, agent, scopes, created_at, expires_at, revoked_at FROM keys "
    "WHERE :workspace = '' OR workspace = :workspace ORDER BY created_at",
    "add_key": _insert("keys", ["id", "workspace", "agent", "hash", "scopes", "created_at", "expires_at"]),
    "revoke_key": "UPDATE keys SET revoked_at = :now WHERE id = :key_id AND revoked_at IS NULL",
    "uses": "SELECT count FROM usage WHERE key = :key AND window = :window",
    "count_use": "INSERT INTO usage (key, window, count) VALUES (:key, :window, 1) "
    "ON CONFLICT (key, window) DO UPDATE SET count = count + 1 RETURNING count",
    "forget_use": "DELETE FROM usage WHERE window < :window",
}

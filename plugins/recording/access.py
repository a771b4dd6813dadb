"""Reading a recording, which stands on its call: who, when, which."""

from __future__ import annotations

from collections.abc import Iterator

from dialer import Call, Host, PluginError
from dialer_plugins.recording import archive
from dialer_plugins.recording.archive import Kept

#: Accesses that stand on one call. It takes 100 events of a plugin, and what becomes of recordings needs some of them.
MOST_ACCESSES = 80


def read(host: Host, kept: Kept, who: str, how: str, start: int, stop: int) -> Iterator[bytes]:
    """The bytes from start to before stop, once the access is on record; raises NotKept.

    A player asks for many parts of one recording: within a minute they are one access.
    """
    pieces: Iterator[bytes] = archive.storage_with(host, kept).read(kept.name, start, stop)
    call = host.call(kept.workspace, kept.call_id)
    if call:
        detail = {"sid": kept.sid, "by": who, "how": how}
        key = f"accessed:{kept.sid}:{who}:{how}:{int(host.clock() // 60)}"
        try:
            _note(host, call, detail, key)
        except PluginError as full:
            host.log.warning("%s of %s was read by %s (%s): %s", kept.sid, call.id, who, how, full)
    return pieces


def _note(host: Host, call: Call, detail: dict[str, str], key: str) -> None:
    """Put an access on the call's record; raises PluginError when there is no room."""
    if sum(event.name == f"{host.name}.accessed" for event in host.events(call)) >= MOST_ACCESSES:
        raise PluginError(f"{MOST_ACCESSES} accesses stand on the call already")
    host.add_event(call, "accessed", detail, key=key)

"""Reading a recording, which stands on its call: who, when, which."""

from __future__ import annotations

from collections.abc import Iterator

from dialer import Host, PluginError
from dialer_plugins.recording import archive
from dialer_plugins.recording.archive import Kept


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
            host.add_event(call, "accessed", detail, key=key)
        except PluginError as full:  # a call takes so many events of a plugin and no more
            host.log.warning("%s of %s was read by %s (%s): %s", kept.sid, call.id, who, how, full)
    return pieces

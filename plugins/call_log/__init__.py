"""Write a line of JSON for every call that has ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from dialer import Call, Host, Setting, hookimpl
from dialer_plugins.call_log.lines import FIELDS, line
from dialer_plugins.call_log.writing import Rotation, write_once


@dataclass(frozen=True, eq=False)
class CallLog:
    """Write a line of JSON per finished call to a file that is rotated, readable by its owner alone."""

    file: Annotated[str, Setting("its name in the plugin's folder, or its full path")] = "calls.jsonl"
    rotate: Annotated[Literal["day", "size", "day-and-size", "never"], Setting("when a new file is begun")] = "day"
    max_megabytes: Annotated[int, Setting("size of a file, where size rotates it", numbers=(1, 10_000))] = 100
    keep: Annotated[int, Setting("how many older files are kept", numbers=(1, 10_000))] = 30
    numbers: Annotated[Literal["full", "masked", "none"], Setting("how phone numbers are written")] = "full"
    leave_out: Annotated[tuple[str, ...], Setting("fields that are not written")] = ()
    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        path = Path(self.file)
        if not self.file or self.file.endswith("/") or not (path.is_absolute() or path.name == self.file):
            raise ValueError(f"file {self.file!r:.60} must be a file name such as calls.jsonl, or a full path")
        for name in self.leave_out:
            if name not in FIELDS or name == "id":
                raise ValueError(f"leave_out {name!r:.60} is no field (fields: {', '.join(FIELDS[1:])})")

    @hookimpl
    def call_ended(self, call: Call) -> None:
        text = line(call, self.numbers, self.leave_out)
        rotation = Rotation(
            "day" in self.rotate, self.max_megabytes * 1_000_000 if "size" in self.rotate else None, self.keep
        )
        write_once(self.host, self.host.folder / self.file, call.id, text, rotation)

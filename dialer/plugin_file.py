"""dialer.toml changed by a command: comments and layout stay, nothing half is ever seen, nothing broken is written."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable, Array

from dialer.config import config_path, mark, write_first
from dialer.errors import ConfigError

#: Seconds for `dialer check` to look at the file as it would be, plugins that hang included.
CHECK_SECONDS = 90.0

Edit = Callable[[tomlkit.TOMLDocument], None]


def change(edit: Edit, before: Callable[[Path], None]) -> Path:
    """Edit the file and put it in place; raises ConfigError if it would have a fault that it has not now.

    `before` is given the new file just before it takes the other's place.
    """
    write_first()
    file = config_path(os.environ, Path.cwd()).resolve()
    seen = mark(file)
    text = _read(file)
    document = tomlkit.parse(text)
    edit(document)
    new = tomlkit.dumps(document)
    if new == text:
        return file
    beside = _write_beside(file, new)
    try:
        _refuse_new_faults(file, beside)
        if mark(file) != seen:
            raise ConfigError(f"{file} was changed by somebody else meanwhile: look at it, and run this again")
        before(beside)
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)
    return file


def listing(document: tomlkit.TOMLDocument, *path: str, key: str) -> Array:
    """The list at this place of the document, made if it is not there."""
    table = table_at(document, *path)
    if key not in table:
        table[key] = tomlkit.array()
    found = table[key]
    if not isinstance(found, Array):
        raise ConfigError(f"[{'.'.join(path)}].{key} is no list")
    return found


def table_at(document: tomlkit.TOMLDocument, *path: str) -> Any:
    """The table at this place, made if it is not there."""
    table: Any = document
    for depth, name in enumerate(path):
        if name not in table:
            table[name] = tomlkit.table(is_super_table=depth + 1 < len(path))
        table = table[name]
        if not isinstance(table, AbstractTable):
            raise ConfigError(f"[{'.'.join(path[: depth + 1])}] is no table")
    return table


def reorder(names: Array, wanted: Iterable[str]) -> None:
    """Put the names of a list in another order; where they stand (lines, comments) stays."""
    for place, name in enumerate(wanted):
        names[place] = name


def _read(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
        tomlkit.parse(text)
        return text
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    except TOMLKitError as error:
        raise ConfigError(f"{file}: is not TOML: {error}") from None


def _write_beside(file: Path, text: str) -> Path:
    """The new text on disk, in the same folder, as private as the old one and of the same owner."""
    beside, old = file.with_name(f".{file.name}.{os.getpid()}"), file.stat()
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
            os.fchmod(new.fileno(), stat.S_IMODE(old.st_mode))
            if os.geteuid() == 0:
                os.fchown(new.fileno(), old.st_uid, old.st_gid)
    except OSError as error:
        raise ConfigError(f"{file} cannot be changed: {error.strerror}") from None
    return beside


def _refuse_new_faults(file: Path, beside: Path) -> None:
    faults = _faults(beside, file)
    old = _faults(file, file) if faults else []
    new = [fault for fault in faults if fault not in old]
    if new:
        more = f" (and {len(new) - 1} more)" if new[1:] else ""
        raise ConfigError(f"nothing was changed, since dialer check would refuse it: {new[0]}{more}")


def _faults(path: Path, told_as: Path) -> list[str]:
    """What `dialer check` says of a file, in a process of its own: a plugin may end the one that imports it."""
    environ = {**os.environ, "DIALER_CONFIG": str(path)}
    environ.pop("DIALER_PLUGINS", None)
    command = (sys.executable, "-P", "-m", "dialer", "check", "--json")
    try:
        done = subprocess.run(command, env=environ, capture_output=True, timeout=CHECK_SECONDS, check=False, text=True)
        found = json.loads(done.stdout)["faults"]
    except subprocess.TimeoutExpired:
        return [f"{told_as}: a plugin on the list hangs while it is imported"]
    except (ValueError, KeyError):
        return [f"{told_as}: a plugin on the list ends the process that imports it (exit code {done.returncode})"]
    return [str(fault).replace(str(path), str(told_as)) for fault in found]

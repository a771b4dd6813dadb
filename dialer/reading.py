"""dialer.toml opened: its tables, where they came from, and the faults found in them so far."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from dialer.tables import Mark, Source, one_line, read

T = TypeVar("T")


@dataclass
class Reading:
    """The file's tables and the faults found in them so far."""

    source: Source
    tables: dict[str, Any]
    faults: list[str] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)

    def fault(self, section: str, key: str, text: str) -> None:
        self.faults.append(self.source.fault(section, key, text))

    def table(self, tables: Mapping[str, Any], name: str, section: str) -> dict[str, Any]:
        """A table within another; empty when it is missing, or no table at all."""
        found = tables.get(name, {})
        if not isinstance(found, dict):
            self.fault(section, "", f"must be a table, written [{section}]")
            return {}
        return found

    def build(self, cls: type[T], table: Mapping[str, Any], section: str, *, overridden: bool = False) -> T:
        """The section as its dataclass; what is at fault in it stays at its default."""
        values, faults = read(cls, table, self.source, section, overridden=overridden)
        self.faults += faults
        if faults:
            self.faulty.add(section)
        return cls(**values)


def open_file(path: Path, environ: Mapping[str, str], cwd: Path) -> Reading:
    """Read the file as far as that goes; one that is not there is empty, and a fault only if it was named."""
    source = Source(path, cwd, environ)
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            source = replace(source, mark=mark_of(found), mode=found.st_mode)
            return Reading(source, tomllib.load(file))
    except FileNotFoundError:
        missing = "is not there; correct DIALER_CONFIG, or unset it to use defaults"
        return Reading(source, {}, [one_line(f"{path}: {missing}")] if environ.get("DIALER_CONFIG") else [])
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        why = "is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        why = f"is not TOML: {error}"
    return Reading(source, {}, [one_line(f"{path}: {why}")])


def mark_of(found: os.stat_result) -> Mark:
    return found.st_mtime_ns, found.st_size, found.st_ino

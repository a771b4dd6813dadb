"""A table of TOML becomes a frozen dataclass; every fault is one line that an admin can act on.

The fields of the dataclass are the settings: their types are checked, lists become tuples, and a text or a
Secret may also be given as `{ env = "NAME" }` or `{ file = "path" }`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

OTHERS_MAY_READ = 0o077
_WORDS: Mapping[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
}


#: A file's modification time in ns, size and inode: another content has another mark. None: there is no file.
Mark = tuple[int, int, int] | None
TYPES = "bool, int, float, str, Secret, Literal, a dataclass, tuple[T, ...], T | None"


class Secret:
    """A text that shows itself only through `reveal()`: never in a repr, a log line or an error."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class Lent:
    """A field of this type is no setting: Dialer fills it."""


@dataclass(frozen=True)
class Source:
    """Where settings were read: the file, its mark and permissions, and the environment it may refer to."""

    file: Path
    cwd: Path = Path()
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    mark: Mark = None
    mode: int = 0o600

    def fault(self, section: str, key: str, text: str) -> str:
        """One line: the file, the section and key, what is wrong."""
        where = f"[{section}].{key}" if key else f"[{section}]"
        return one_line(f"{self.file}: {where}: {text}")


@dataclass(frozen=True)
class Setting:
    """What a field means and takes: `Annotated[int, Setting("seconds to ring", numbers=(5, 600))]`.

    `env` names the environment variable that wins over the file, `numbers` the lowest and highest value;
    `parse` returns the value to keep or raises ValueError with a text.
    """

    meaning: str = ""
    env: str = ""
    numbers: tuple[float, float] | None = None
    parse: Callable[[Any], Any] | None = None


def read(
    cls: type[Any], table: Mapping[str, Any], source: Source, section: str, *, overridden: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """The settings that a table gives, and every fault; `overridden` lets the environment win."""
    known = settings_of(cls)
    faults = [source.fault(section, key, unknown(key, known)) for key in table if key not in known]
    values: dict[str, Any] = {}
    for name, (hint, one, required) in known.items():
        from_env = bool(overridden and one.env and source.environ.get(one.env))
        try:
            if from_env or name in table:
                given = source.environ[one.env] if from_env else table[name]
                values[name] = _checked(one, _convert(hint, given, source, trusted=from_env))
            elif required:
                raise ValueError(f"missing; it must be {kind(hint)}")
        except (ValueError, TypeError) as error:
            fault = source.fault(section, name, str(error))
            faults.append(one_line(f"{one.env}: {error}") if from_env else fault)
    return values, faults


def settings_of(cls: type[Any]) -> dict[str, tuple[Any, Setting, bool]]:
    """The settings of a dataclass: name to type, meaning, and whether it must be given."""
    hints, found = typing.get_type_hints(cls, include_extras=True), {}
    for one in dataclasses.fields(cls):
        hint, setting = hints[one.name], Setting()
        if typing.get_origin(hint) is Annotated:
            hint, *notes = typing.get_args(hint)
            setting = next((note for note in notes if isinstance(note, Setting)), setting)
        required = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        if one.init and not _is_lent(hint):
            found[one.name] = (hint, setting, required)
    return found


def lent_fields(cls: type[Any]) -> list[str]:
    """The fields of a dataclass that Dialer fills."""
    hints = typing.get_type_hints(cls)
    return [one.name for one in dataclasses.fields(cls) if one.init and _is_lent(hints[one.name])]


def _is_lent(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, Lent)


def unknown(name: str, known: Iterable[str], what: str = "setting") -> str:
    """Why a name is refused, with the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no such {what}; {hint}({what}s: {', '.join(names) or 'none'})"


def kind(hint: object) -> str:
    """A type in an admin's words; raises TypeError for one that a setting cannot have."""
    if hint in _WORDS:
        return _WORDS[hint]
    if hint is Secret:
        return 'a text in quotes, { env = "NAME" } or { file = "path" }'
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return f"a table ({', '.join(settings_of(hint))})"
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(shown(choice) for choice in inner)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return f"a list, each {kind(inner[0])}"
    if origin in (typing.Union, types.UnionType) and len(inner) == 2 and type(None) in inner:
        return kind(next(one for one in inner if one is not type(None)))
    raise TypeError(f"has the type {hint}, which no setting can have (types: {TYPES})")


def shown(value: object) -> str:
    """A value as TOML has it, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value[:60]) if isinstance(value, str) else f"{value!r:.60}"


def one_line(text: str) -> str:
    """Without line breaks and control characters, which a name in the file may bring along."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _convert(hint: Any, value: Any, source: Source, *, trusted: bool) -> Any:
    """The value in the type of the setting; raises ValueError with a text that holds no secret."""
    wanted = kind(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        hint = next(one for one in inner if one is not type(None))
        return _convert(hint, value, source, trusted=trusted)
    if origin is tuple:
        tables = dataclasses.is_dataclass(inner[0])
        if not isinstance(value, list):
            raise ValueError(f"must be {wanted}, " + ("[[...]] above each" if tables else f"not {shown(value)}"))
        if tables:
            return tuple(_entry(inner[0], one, source, place) for place, one in enumerate(value, 1))
        return tuple(_convert(inner[0], one, source, trusted=trusted) for one in value)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in inner):
            raise ValueError(f"must be {wanted}, not {shown(value)}")
        return value
    if dataclasses.is_dataclass(hint):
        return _table(hint, value, source)
    if hint in (str, Secret) and isinstance(value, dict):
        found = _referred(value, source)
        return Secret(found) if hint is Secret else found
    if hint is Secret:
        return _secret(value, source, trusted=trusted)
    if hint is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"must be {wanted}, not {shown(value)}")
    return value


def _entry(cls: Any, value: Any, source: Source, place: int) -> Any:
    try:
        return _table(cls, value, source)
    except ValueError as error:
        raise ValueError(f"entry {place}: {error}") from None


def _table(cls: Any, value: Any, source: Source) -> Any:
    """The dataclass that a table within a plugin's table gives; it may hold secrets, so no value is repeated."""
    if not isinstance(value, dict):
        raise ValueError(f"must be {kind(cls)}")
    known, values = settings_of(cls), {}
    for key in value:
        if key not in known:
            raise ValueError(f"{key}: {unknown(key, known)}")
    for name, (hint, one, required) in known.items():
        try:
            if name in value:
                values[name] = _checked(one, _convert(hint, value[name], source, trusted=False))
            elif required:
                raise ValueError(f"missing; it must be {kind(hint)}")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: {error}") from None
    return cls(**values)


def _secret(value: Any, source: Source, *, trusted: bool) -> Secret:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be {kind(Secret)}")
    if not trusted and source.mode & OTHERS_MAY_READ:
        raise ValueError(f'others may read it here; run: chmod 600 {source.file} (or use {{ env = "NAME" }})')
    return Secret(value)


def _referred(table: Mapping[str, Any], source: Source) -> str:
    """What `{ env = "NAME" }` or `{ file = "path" }` stands for; a path is relative to the file it is in."""
    if len(table) != 1 or not isinstance(next(iter(table.values())), str):
        raise ValueError('must be { env = "NAME" } or { file = "path" }')
    (how, name), *_ = table.items()
    if how == "file":
        return _file_text(source.file.parent / name)
    if how != "env":
        raise ValueError(f"{how!r:.60} is not a place for a value; use env or file")
    if not source.environ.get(name):
        raise ValueError(f"the environment has no {name}; set it, or change this line")
    return source.environ[name]


def _file_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS_MAY_READ:
                raise ValueError(f"others may read this file; run: chmod 600 {path}")
            text = file.read().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(f"{path} cannot be read: {why}") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def _checked(setting: Setting, value: Any) -> Any:
    numbers = setting.numbers
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a number, not {value}")
    if numbers and not numbers[0] <= value <= numbers[1]:
        raise ValueError(f"must be {numbers[0]:g} to {numbers[1]:g}, not {shown(value)}")
    return setting.parse(value) if setting.parse else value

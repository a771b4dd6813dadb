"""Settings from JSON into dataclasses, checked against the types of their fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from dialer.simulator.knobs import Faults, Knobs

Settings = TypeVar("Settings", Knobs, Faults)


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it and what would do."""


def change_settings(old: Settings, changes: Any) -> Settings:
    """The knobs or faults with some of them changed. Raises ConfigError."""
    kind = type(old)
    most = 1.0 if kind is Faults else math.inf
    return replace(old, **read_settings(kind, changes, f"{kind.__name__.lower()}.", most))


def read_settings(kind: type[Any], read: Any, where: str, most: float = math.inf) -> dict[str, Any]:
    """The values read for that dataclass, none above `most`; `where` begins each name. Raises ConfigError."""
    names = [each.name for each in fields(kind)]
    if not isinstance(read, dict):
        raise ConfigError(f"{where.rstrip('.') or 'the file'} must be an object")
    for name in read:
        if name not in names:
            raise ConfigError(f"{where}{name} is not a setting; there are {', '.join(names)}")
    hints = get_type_hints(kind)
    return {name: _check(where + name, value, hints[name], most) for name, value in read.items()}


def _check(name: str, value: Any, hint: Any, most: float) -> Any:
    parts = get_args(hint)
    if type(None) in parts:
        return None if value is None else _check(name, value, parts[0], most)
    if get_origin(hint) is Literal and value not in parts:
        raise ConfigError(f"{name} must be one of {', '.join(parts)}")
    if get_origin(hint) is tuple:
        return _check_list(name, value, parts, most)
    if get_origin(hint) is Mapping and not isinstance(value, dict):
        raise ConfigError(f"{name} must be an object")
    if hint in (int, float) and not _is_number(value, hint, most):
        raise ConfigError(f"{name} must be a number from 0" + (f" to {most:g}" if most < math.inf else ""))
    if hint in (bool, str) and not isinstance(value, hint):
        raise ConfigError(f"{name} must be {'text' if hint is str else 'true or false'}")
    return value


def _check_list(name: str, value: Any, parts: tuple[Any, ...], most: float) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{name} must be a list")
    kinds = [parts[0]] * len(value) if parts[-1] is ... else list(parts)
    if len(kinds) != len(value):
        raise ConfigError(f"{name} must be a list of {len(kinds)} numbers")
    return tuple(_check(name, each, kind, most) for each, kind in zip(value, kinds, strict=True))


def _is_number(value: Any, hint: type, most: float) -> bool:
    allowed = isinstance(value, int if hint is int else int | float)
    return allowed and not isinstance(value, bool) and 0 <= value <= most

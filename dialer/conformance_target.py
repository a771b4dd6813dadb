"""Which plugin is to be tested: an installed one, a project's folder, or module:Class."""

from __future__ import annotations

import importlib
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dialer.discovery import GROUP, brought_by, installed
from dialer.errors import DialerError
from dialer.offline import code_of
from dialer.plugin_set import snake_case
from dialer.tables import unknown

#: How far above its code a project's README may lie.
FOLDERS_UP = 4


@dataclass(frozen=True)
class Target:
    """A plugin by its name, the entry point's value (module:Class), and the folders that it is imported from."""

    name: str
    value: str
    paths: list[str] = field(default_factory=list)

    def load(self) -> Any:
        """What is registered: mostly a class."""
        sys.path[:0] = [path for path in self.paths if path not in sys.path]
        module, _, attribute = self.value.partition(":")
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found


def target_of(text: str) -> Target:
    """What somebody means who writes NAME, a path or module:Class; raises DialerError."""
    if ":" in text:
        return Target(snake_case(text.rpartition(":")[2].rpartition(".")[2]), text, [str(Path.cwd())])
    there = installed()
    if text in there:
        if len(there[text]) > 1:
            who = " and ".join(map(brought_by, there[text]))
            raise DialerError(f"{text} is brought by {who}; uninstall all but one")
        return Target(text, there[text][0].value)
    path = Path(text)
    if path.is_dir():
        return _in_project(path.resolve())
    raise DialerError(f"{text}: {unknown(text, there, 'plugin')}; install it, or give its folder or module:Class")


def readme_of(target: Target, plugin: Any) -> str | None:
    """The README beside the code, of the project that it is in, or of the distribution that brings it."""
    code = code_of(plugin)
    for folder in (code, *code.parents[:FOLDERS_UP]):
        if (folder / "README.md").is_file():
            return (folder / "README.md").read_text(encoding="utf-8")
        if (folder / "pyproject.toml").exists():
            break
    points = installed().get(target.name, [])
    found = points[0].dist.metadata.json.get("description") if points and points[0].dist else None
    return str(found) if found else None


def _in_project(folder: Path) -> Target:
    """The plugin of a project that need not be installed."""
    file = folder / "pyproject.toml"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        points = table["project"]["entry-points"][GROUP]
        (name, value), *others = points.items()
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise DialerError(f"{file} cannot be read: {error}") from None
    except (LookupError, AttributeError, ValueError):
        raise DialerError(f'{file} brings no plugin: it needs [project.entry-points."{GROUP}"]') from None
    if others:
        raise DialerError(f"{file} brings several plugins ({', '.join(points)}); give module:Class of one")
    return Target(name, str(value), [str(folder / "src" if (folder / "src").is_dir() else folder)])

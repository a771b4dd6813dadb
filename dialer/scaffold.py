"""`dialer plugins new`: a project for a plugin that passes its own tests before a line of it was changed."""

from __future__ import annotations

import keyword
import re
import shutil
import string
from importlib.metadata import version
from pathlib import Path

from dialer.cli import COMMANDS
from dialer.discovery import brought_by, installed
from dialer.errors import DialerError

TEMPLATES = Path(__file__).with_name("new_plugin")
#: Where each template goes; names that depend on the plugin's are filled in, too.
FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "gitignore.txt": ".gitignore",
    "plugin.py.txt": "src/$package/__init__.py",
    "py.typed.txt": "src/$package/py.typed",
    "conftest.py.txt": "tests/conftest.py",
    "test_plugin.py.txt": "tests/test_$name.py",
}
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST = 40


def rule_broken(name: str) -> str:
    """Why this cannot be a plugin's name; empty when it can."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        rule = f"lower-case letters, digits and single _ between them, a letter first, {LONGEST} characters at most"
        return f"{name!r:.60} is no plugin's name: {rule}, such as quiet_hours"
    if keyword.iskeyword(name):
        return f"{name} is a word of Python's own; take another name"
    if name in COMMANDS:
        return f"{name} is a command of Dialer's own, and dialer {name} would never be the plugin's; take another name"
    if points := installed().get(name):
        return f"{name} is brought by {brought_by(points[0])} already, and a name is one plugin's; take another name"
    return ""


def begin(name: str, folder: Path) -> Path:
    """Write the project into a new folder within this one, and give it; raises DialerError, and overwrites nothing."""
    words = {
        "name": name,
        "distribution": f"dialer-{name.replace('_', '-')}",
        "package": f"dialer_{name}",
        "class_name": "".join(part.capitalize() for part in name.split("_")),
        "title": name.replace("_", " ").capitalize(),
        "version": version("dialer"),
    }
    project = folder / words["distribution"]
    if project.exists():
        raise DialerError(f"{project} is there already, and nothing is overwritten: move it, or use --path")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        project.mkdir()
    except OSError as error:
        raise DialerError(f"{project} cannot be made: {error.strerror}") from None
    try:
        for template, place in FILES.items():
            path = project / string.Template(place).substitute(words)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = (TEMPLATES / template).read_text(encoding="utf-8")
            path.write_text(string.Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(project, ignore_errors=True)
        raise DialerError(f"{project} cannot be written: {error.strerror}") from None
    return project

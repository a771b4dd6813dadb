"""TwiML documents: parsed as Twilio would, with its error codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from xml.parsers import expat

MAX_BYTES = 64 * 1024
XML_TYPES = frozenset({"text/xml", "application/xml", "text/html"})


class DocumentError(Exception):
    """A document that Twilio would not run, with its error code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class Verb:
    """An element of a document: a verb, or a noun inside one. `text` is the text directly in it."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[Verb] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """An attribute, as written."""
        return self.attributes.get(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """A true/false attribute; the default for anything else."""
        value = self.attributes.get(name, "").strip().lower()
        return value == "true" if value in ("true", "false") else default

    def number(self, name: str, default: int) -> int:
        """A whole number, not negative; the default for anything else."""
        value = self.attributes.get(name, "").strip()
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else default

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of the choices; the first for anything else."""
        value = self.attributes.get(name, "").strip()
        return value if value in choices else choices[0]

    def method(self, name: str = "method", default: str = "POST") -> str:
        """An HTTP method, GET or POST."""
        value = self.attributes.get(name, "").strip().upper()
        return value if value in ("GET", "POST") else default


def read_answer(headers: Mapping[str, str], body: bytes) -> list[Verb]:
    """The verbs of a webhook's answer; text is spoken, audio is played. Raises DocumentError."""
    content_type = next((v for k, v in headers.items() if k.lower() == "content-type"), "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("audio/"):
        return [Verb("Play")]
    if not body.strip():
        raise DocumentError(11770, "The body of the answer is empty")
    if len(body) > MAX_BYTES:
        raise DocumentError(11750, "The body of the answer is over 64 kB")
    if media_type == "text/plain":
        return [Verb("Say", text=body.decode("utf-8", "replace"))]
    if media_type not in XML_TYPES:
        raise DocumentError(12300, f"Content type {media_type or '(none)'} is not one that can be run")
    return parse(body)


def parse(body: bytes | str) -> list[Verb]:
    """The verbs of a TwiML document. Raises DocumentError."""
    root = parse_tree(body.encode() if isinstance(body, str) else body)
    if root.name != "Response":
        raise DocumentError(12102, f"The root element is {root.name}, not Response")
    return root.children


@lru_cache(maxsize=512)
def parse_tree(body: bytes) -> Verb:
    """The root element. Shared between calls: never change what comes back."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.XmlDeclHandler = check_version
    parser.StartDoctypeDeclHandler = refuse_doctype
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DocumentError(12100, f"The document is not XML: {error}") from None
    return builder.root.children[0]


class TreeBuilder:
    """Collects expat's events into Verbs under a nameless root."""

    def __init__(self) -> None:
        self.root = Verb("")
        self.open = [self.root]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        verb = Verb(name, attributes)
        self.open[-1].children.append(verb)
        self.open.append(verb)

    def end(self, name: str) -> None:
        self.open.pop()

    def data(self, text: str) -> None:
        self.open[-1].text += text


def check_version(version: str, encoding: str | None, standalone: int) -> None:
    if version != "1.0":
        raise DocumentError(12101, f"XML version {version} is not supported")


def refuse_doctype(*declaration: object) -> None:
    # Entities could make a small document explode; TwiML has no use for them.
    raise DocumentError(12100, "A document type declaration is not allowed")

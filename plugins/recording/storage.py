"""Where recordings are kept: on the disk of this machine, or in a bucket that speaks S3.

boto3 is the library for S3: its vendor keeps it, it repeats what failed, sends large files in parts, and works with
every store that has S3's interface. Smaller ones leave some of that to their users.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import urlsplit

from dialer import DialerError, Secret, Setting

PIECE = 65_536
MEDIA_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}
#: Seconds to connect to a bucket, and to wait for its next bytes.
CONNECT_SECONDS, READ_SECONDS = 5, 30


class NotKept(DialerError):
    """A recording is not where it was put, or cannot be reached from here."""


class Storage(Protocol):
    """`place` and the name that `put` gives say where a recording is, whatever the settings say later."""

    @property
    def place(self) -> str: ...

    def put(self, file: Path, name: str) -> str:
        """Move a file in, in place of what was there; it is safe under the name that this gives."""

    def read(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from start to before stop; raises NotKept at once."""

    def has(self, name: str) -> bool:
        """Whether it is there; raises what the disk or the bucket raises."""

    def delete(self, name: str) -> None:
        """Delete it; one that is gone already is fine."""


@dataclass(frozen=True)
class Disk:
    """Files under the plugin's folder, for this user alone."""

    root: Path
    place = "disk"

    def put(self, file: Path, name: str) -> str:
        target = self.root / name
        inner = [self.root / folder for folder in target.relative_to(self.root).parents[:-1]]
        for folder in reversed(inner):
            folder.mkdir(mode=0o700, exist_ok=True)
        os.replace(file, target)
        for folder in (*inner, self.root):
            _sync(folder)
        return name

    def read(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        try:
            descriptor = os.open(self.root / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise NotKept(f"{name} cannot be read: {error.strerror}") from None
        return _pieces(descriptor, start, stop)

    def has(self, name: str) -> bool:
        return (self.root / name).is_file()

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)


def _pieces(descriptor: int, start: int, stop: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb") as file:
        file.seek(start)
        while start < stop and (piece := file.read(min(PIECE, stop - start))):
            start += len(piece)
            yield piece


def _sync(folder: Path) -> None:
    """Have what was done in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_endpoint(text: str) -> str:
    url = urlsplit(text)
    local = url.hostname in ("127.0.0.1", "::1", "localhost")
    if text and not (url.hostname and (url.scheme == "https" or (url.scheme == "http" and local))):
        raise ValueError("must be a URL such as https://s3.example.com, http:// only on this machine")
    return text


@dataclass(frozen=True, kw_only=True)
class S3:
    """A bucket. Without keys, boto3 looks for them where it always does: environment, profile, instance role."""

    bucket: Annotated[str, Setting("its name")]
    prefix: Annotated[str, Setting("what the names of our objects begin with, such as calls/")] = ""
    endpoint: Annotated[str, Setting("URL of a store that is not Amazon's", parse=_read_endpoint)] = ""
    region: Annotated[str, Setting("such as eu-central-1; empty: as boto3 finds it")] = ""
    access_key: Annotated[Secret | None, Setting("the key's id")] = None
    secret_key: Annotated[Secret | None, Setting("the key's secret")] = None

    def __post_init__(self) -> None:
        if not self.bucket:
            raise ValueError("bucket: must not be empty")
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key: give both or none")

    @property
    def place(self) -> str:
        return f"{self.endpoint.rstrip('/')}/{self.bucket}" if self.endpoint else f"s3://{self.bucket}"

    def put(self, file: Path, name: str) -> str:
        from boto3.s3.transfer import TransferConfig

        size, client, key = file.stat().st_size, _client(self), self.prefix + name
        kind = {"ContentType": MEDIA_TYPES[name.rpartition(".")[2]]}
        one_thread = TransferConfig(use_threads=False)
        client.upload_file(str(file), self.bucket, key, ExtraArgs=kind, Config=one_thread)
        there = client.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
        if there != size:
            raise NotKept(f"{self.place} has {there} bytes of {key}, not {size}")
        file.unlink()
        return key

    def read(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            span = f"bytes={start}-{stop - 1}"
            found = _client(self).get_object(Bucket=self.bucket, Key=name, Range=span)
        except (BotoCoreError, ClientError) as error:
            raise NotKept(f"{self.place}: {name} cannot be read: {error}") from None
        pieces: Iterator[bytes] = found["Body"].iter_chunks(PIECE)
        return pieces

    def has(self, name: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            _client(self).head_object(Bucket=self.bucket, Key=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "404":  # a HEAD has no body, so the code is the status
                raise
            return False
        return True

    def delete(self, name: str) -> None:
        _client(self).delete_object(Bucket=self.bucket, Key=name)


@functools.cache
def _client(s3: S3) -> Any:
    """One client per bucket and process; its threads may share it (boto3's documents, clients)."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "max_attempts": 3},
        # Stores other than Amazon's often know neither host names of buckets nor the newest checksums.
        s3={"addressing_style": "path"} if s3.endpoint else {},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    keys = {}
    if s3.access_key and s3.secret_key:
        keys = {"aws_access_key_id": s3.access_key.reveal(), "aws_secret_access_key": s3.secret_key.reveal()}
    return boto3.session.Session().client(
        "s3", region_name=s3.region or None, endpoint_url=s3.endpoint or None, config=config, **keys
    )

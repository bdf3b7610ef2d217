"""Places to store in, for the tests: what a test needs to know of each store."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from batchconv import storage
from batchconv.storage import PartReceipt, Upload, remote

MIB = 1 << 20


@dataclass(frozen=True)
class Place:
    """A fresh place in a store: its URL, and how to list everything that is in it, hidden and half-done things too."""

    kind: str
    url: str
    names: Callable[[], list[str]]

    def join(self, name: str) -> str:
        return storage.join(self.url, name)


@dataclass(frozen=True)
class Range:
    """An extent, as `PartWriter.copy` takes it."""

    url: str
    offset: int
    length: int


def cut(nbytes: int, *stops: int) -> list[tuple[int, int]]:
    """(start, nbytes) of each part of an object, cut at `stops`."""
    return [(start, stop - start) for start, stop in pairwise([0, *stops, nbytes])]


def write_all(upload: Upload, data: bytes, cuts: list[tuple[int, int]]) -> list[PartReceipt]:
    receipts = []
    for number, (start, nbytes) in enumerate(cuts):
        with storage.part(upload, number, start, nbytes, last=number == len(cuts) - 1) as writer:
            writer.write(start, data[start : start + nbytes])
        receipts.append(writer.close())
    return receipts


def s3_environment(endpoint: str, key: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_MAX_ATTEMPTS": "2",
    }


_clients: dict[str, dict[tuple[int, str, str], Any]] = {}


def s3_place(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    endpoint = environment["AWS_ENDPOINT_URL"]
    if endpoint in _clients:  # making one takes half a second
        remote._systems.update(_clients[endpoint])
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    system, _ = remote.filesystem(f"s3://{bucket}/x")
    _clients[endpoint] = {key: kept for key, kept in remote._systems.items() if key[1] == "s3"}
    system.call_s3("create_bucket", Bucket=bucket)

    def names() -> list[str]:
        found = system.call_s3("list_objects_v2", Bucket=bucket).get("Contents", [])
        open_ = system.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads", [])
        return sorted([each["Key"] for each in found] + [f"upload of {each['Key']}" for each in open_])

    return Place("s3", f"s3://{bucket}", names)

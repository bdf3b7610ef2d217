"""Names of objects: plain paths and fsspec URLs, taken apart and joined without looking at any store."""

from __future__ import annotations

import os

from batchconv.errors import StorageError

PACKAGE = "package://"
"""What a URL of a file inside an installed Python package starts with: `package://onnx/backend/test/...`."""


def is_local(url: str) -> bool:
    """True for a plain path or `file://` URL."""
    return "://" not in url or url.startswith("file://")


def local_path(url: str) -> str:
    """The path that a local `url` names."""
    return url.removeprefix("file://")


def same_place(url: str) -> str:
    """One spelling for all URLs of one object: a local path is made absolute, its links followed."""
    return os.path.realpath(local_path(url)) if is_local(url) else url


def is_folder(url: str) -> bool:
    """True if a folder of the file system stands where an object would be put."""
    return is_local(url) and os.path.isdir(local_path(url))


def protocol(url: str) -> str:
    """The part before `://`; `file` for a plain path."""
    return url.partition("://")[0] if "://" in url else "file"


def join(url: str, *parts: str) -> str:
    """`url` with `parts` below it, whatever slashes they start or end with."""
    for part in parts:
        part = part.strip("/")
        url = f"{url}{'' if url.endswith('/') or not url else '/'}{part}" if part else url
    return url


def parent(url: str) -> str:
    """What `url` lies in: `.` for a bare name; a bucket or root lies in itself."""
    if "://" not in url:
        return os.path.dirname(url.rstrip("/") or "/") or "."
    scheme, _, path = url.partition("://")
    if not path.rstrip("/"):
        return url
    head, slash, _ = path.rstrip("/").rpartition("/")
    if not slash:
        return url
    return f"{scheme}://{head or '/'}"


def has_magic(url: str) -> bool:
    """True if a `*`, `?` or `[` in it makes `url` a pattern."""
    return any(sign in url for sign in "*?[")


def packaged(url: str) -> str:
    """The path of a `package://NAME/...` URL in the installed package (which is not imported); others as they are."""
    if not url.startswith(PACKAGE):
        return url
    from importlib.util import find_spec

    name, _, rest = url.removeprefix(PACKAGE).partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise StorageError(f"no Python package '{name}' is installed", url)
    return join(next(iter(spec.submodule_search_locations)), rest)

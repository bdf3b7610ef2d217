"""Every exception that batchconv raises, drawn as a tree.

    BatchconvError
    |- ConversionError            ends one model, never the batch
    |  |- Unsupported             the model is right, batchconv cannot do it
    |  |- BadModel                the file, or the request made of it, is wrong
    |  |- ResourceError           time, memory or a process ran out; another try may succeed
    |  `- InternalError           a promise of our own code is broken
    |- ManifestError(ValueError)  every fault of a manifest together
    `- StorageError(OSError)      after retries; safe to run again

All fields stand in ``args`` and the text is built in ``__str__``: such an exception survives pickling.
"""

from __future__ import annotations

from typing import TypeVar

Conversion = TypeVar("Conversion", bound="ConversionError")


class BatchconvError(Exception):
    """The root: `except BatchconvError` catches all that batchconv raises on purpose."""


class ConversionError(BatchconvError):
    """One model cannot be converted; one line says model, node, operator and what to do.

    Fields (all str, any may be empty): message, model, node, op, where (the source file to look at).
    """

    def __init__(self, message: str, model: str = "", node: str = "", op: str = "", where: str = "") -> None:
        super().__init__(message, model, node, op, where)

    @property
    def message(self) -> str:
        return str(self.args[0])

    def at(self: Conversion, model: str = "", node: str = "", op: str = "", where: str = "") -> Conversion:
        """The same error with the fields that were still empty filled in."""
        known = zip(self.args[1:], (model, node, op, where), strict=True)
        return type(self)(self.message, *(old or new for old, new in known))

    def __str__(self) -> str:
        message, model, node, op, where = self.args
        place = f"{op} '{node}'" if op and node else op or (node and f"node '{node}'")
        text = ": ".join(part for part in (model, place, message) if part)
        return " ".join((f"{text} (see {where})" if where else text).split())


class Unsupported(ConversionError):
    """The model is right and batchconv cannot convert it."""


class BadModel(ConversionError):
    """The model file, or what was asked of it, is wrong."""


class ResourceError(ConversionError):
    """A conversion ran out of time, memory or its process; a later try may succeed."""


class InternalError(ConversionError):
    """A promise of batchconv's own code is broken: please report it."""


class ManifestError(BatchconvError, ValueError):
    """A manifest is wrong; `faults` (tuple of str) holds every fault, each with its line."""

    def __init__(self, path: str, faults: tuple[str, ...]) -> None:
        super().__init__(path, faults)

    @property
    def faults(self) -> tuple[str, ...]:
        return tuple(self.args[1])

    def __str__(self) -> str:
        path, faults = self.args
        return "\n".join(f"{path}: {fault}" for fault in faults)


class StorageError(BatchconvError, OSError):
    """A store did not answer, or refused, after retries; running again is safe.

    Fields: message, url; transient: another try may succeed with nothing changed (it is not a wrong key or name).
    """

    def __init__(self, message: str, url: str = "", *, transient: bool = False) -> None:
        super().__init__(message, url)
        self.transient = transient

    def __str__(self) -> str:
        message, url = self.args
        return " ".join((f"{url}: {message}" if url else message).split())

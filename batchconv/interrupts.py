"""Being asked to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def terminable(kind: type[KeyboardInterrupt] = KeyboardInterrupt) -> Iterator[None]:
    """Inside, SIGTERM raises `kind`: what is under way is put away as at Ctrl-C.

    Batch systems send it before they kill. Only the main thread can be interrupted so; in others nothing changes.
    """

    def interrupt(*_: object) -> NoReturn:
        raise kind

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

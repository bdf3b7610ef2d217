"""How much more work twice the input is, counted in function calls: no clock, so a busy machine does not matter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def calls(work: Callable[[], Any]) -> int:
    """How many functions, ours and built-in ones, `work` calls."""
    count = 0

    def event(_frame: Any, kind: str, _arg: Any) -> None:
        nonlocal count
        count += kind in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(event)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def is_linear(work: Callable[[int], Callable[[], Any]], size: int) -> bool:
    """True if `work(2 * size)`, called, is at most 2.3 times the calls of `work(size)`, called."""
    return calls(work(2 * size)) <= 2.3 * calls(work(size))

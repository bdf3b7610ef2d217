"""Helper modules beside the tests can be imported by name from any folder of tests."""

import signal
import sys
from pathlib import Path

HERE = Path(__file__).parent
for folder in (HERE, *(each for each in HERE.iterdir() if each.is_dir() and each.name[0] not in "._")):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell's background job; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

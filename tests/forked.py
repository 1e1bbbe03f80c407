"""Work in a child process that was forked off, so that what is imported is there at once."""

import os
import signal
import time
import traceback
from collections.abc import Callable


def start(call: Callable[..., object], *given: object) -> int:
    """Start a call in a child; return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        call(*given)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def status(child: int) -> int:
    """Wait for the end of a child; return its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_after(seconds: float, call: Callable[..., object], *given: object) -> bool:
    """Start a call, kill it when so long has gone by; return whether it was still at work."""
    child = start(call, *given)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return status(child) == -signal.SIGKILL

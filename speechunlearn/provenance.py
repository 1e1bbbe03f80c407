"""What a result was made on, and what it took: machine, versions, seconds, peak memory.

A wheel holds a record of what it was built from, which ``setup.py`` writes. Without that record the
package is in a checkout, if it lies beside this project's own ``pyproject.toml``.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from speechunlearn.errors import SpeechUnlearnError, require

#: folder that the package lies in: of a checkout, the repository
REPOSITORY = Path(__file__).resolve().parent.parent

#: file of the package that says what a wheel was built from; a checkout has none
BUILT_FROM = "built_from.json"


@dataclass
class Usage:
    """Seconds and peak memory of a block of work; filled when the block ends.

    Args:
        seconds: wall-clock
        peak_memory_mb: largest resident memory on the CPU, largest allocation on a GPU, in MiB
        start_memory_mb: the same when the block began

    """

    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    start_memory_mb: float = 0.0


@contextlib.contextmanager
def measured() -> Iterator[Usage]:
    """Measure a block of work."""
    import torch

    usage, on_gpu = Usage(), torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        usage.start_memory_mb = torch.cuda.memory_allocated() / 2**20
    else:
        # Linux resets the high-water mark of the resident memory on a 5; elsewhere it stays the
        # process's own
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        usage.start_memory_mb = _resident_peak_mb()
    start = time.perf_counter()
    try:
        yield usage
    finally:
        usage.seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else _resident_peak_mb()
        # the kernel counts pages in lots: the peak of a small block may seem below its start
        usage.peak_memory_mb = max(peak, usage.start_memory_mb)


def trim() -> None:
    """Give memory that is free, but held by the process, back to the system, where it can be.

    Without it, memory that a block of work needs is not seen where an earlier one left as much.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # of glibc


def give_back_large_blocks() -> None:
    """Have memory of a mebibyte and more given back at once when it is free, where it can be.

    The C library else keeps what a large model's graph leaves, in pieces that the next does not
    fit: a third of the peak of wav2vec2-base was such pieces.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(-3, 2**20)  # M_MMAP_THRESHOLD of glibc


def _resident_peak_mb() -> float:
    with contextlib.suppress(OSError):
        held = re.search(r"^VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
        if held is not None:
            return int(held[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


#: environment variable with what `computing` returns, threads excepted, where a plan was made
PLANNED = "SPEECHUNLEARN_PLANNED"


def computing() -> dict[str, str | int]:
    """Return what decides how sums are taken: instruction set, device and threads.

    What is trained differs with them, so they are part of its key in the cache. Jobs and chapters
    of one plan may run on unlike machines and still have to find each other's work: there,
    instruction set and device are those of where it was planned.
    """
    import torch

    asked_for = [name for name in ("MKL_CBWR", "ONEDNN_MAX_CPU_ISA") if name in os.environ]
    instructions = [torch.backends.cpu.get_cpu_capability()]
    instructions += [f"{name}={os.environ[name]}" for name in asked_for]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    planned = json.loads(os.environ.get(PLANNED, "{}"))
    settings = {"instructions": ", ".join(instructions), "device": device} | planned
    return settings | {"threads": torch.get_num_threads()}


def describe() -> str:
    """Return the machine in one line: processor, cores, memory, GPU, threads, versions."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        named = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        processor = processor if named is None else named[1].strip()
    parts = [processor, f"{os.cpu_count()} cores"]
    with contextlib.suppress(ValueError, OSError, AttributeError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        parts.append(f"{memory:.0f} GiB")
    import torch

    parts += [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    parts += [f"{torch.get_num_threads()} threads", f"Python {platform.python_version()}"]
    return ", ".join([*parts, *(f"{name} {version(name)}" for name in ("torch", "transformers"))])


@lru_cache(maxsize=1)
def built_from() -> dict[str, str] | None:
    """Return the commit and the package lock that a wheel was built from; None in a checkout."""
    record = resources.files("speechunlearn").joinpath(BUILT_FROM)
    return json.loads(record.read_text("utf-8")) if record.is_file() else None


@lru_cache(maxsize=1)
def in_checkout() -> bool:
    """Return whether the package lies in a checkout of this project."""
    with contextlib.suppress(OSError, ValueError):  # none, or one that is not TOML
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
        return built_from() is None and project.get("project", {}).get("name") == "speechunlearn"
    return False


def need_checkout(what: str) -> None:
    """Refuse what is made of files of the repository, where they are not there.

    Raises:
        SpeechUnlearnError: the package is an installed one

    """
    told = f"{what} needs the project's repository, and this is the package alone, in "
    told += f"{str(REPOSITORY)!r}: run it in a clone, after make env"
    require(in_checkout(), told, SpeechUnlearnError)


@lru_cache(maxsize=1)
def commit() -> str:
    """Return the code's commit, with ``+changes`` if the package's files differ from it.

    It is that of the project's own checkout, or the one that a wheel was built from; never that of
    another repository that the package happens to lie in.
    """
    built = built_from()
    if built is not None:
        return built["commit"]
    if not in_checkout():
        return "unknown"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        if Path(_git("rev-parse", "--show-toplevel")).resolve() == REPOSITORY:
            changed = _git("status", "--porcelain", "--", "speechunlearn")
            return _git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    return "unknown"


@lru_cache(maxsize=1)
def lock_hash() -> str:
    """Return the first 12 hex digits of the SHA-256 of the package lock."""
    built, lock = built_from(), REPOSITORY / "requirements.lock"
    if built is not None:
        return built["lock"]
    return _short_hash(lock) if lock.exists() else "unknown"


@lru_cache(maxsize=1)
def protocol_hash() -> str:
    """Return the first 12 hex digits of the SHA-256 of ``data/protocol.md``; empty without one.

    It is the plan that a result was made under: rows of two plans make no table.
    """
    file = REPOSITORY / "data" / "protocol.md"
    return _short_hash(file) if in_checkout() and file.is_file() else ""


def _short_hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.strip()

"""A power cut, simulated strictly: what was not synchronised may be lost, halved, or there.

From the start every ``os.fsync`` is recorded: of a file its content then, of a folder its names
then. At a cut, the folder is written anew as a disk may hold it: a file that was not synchronised
since it was written is empty, as it was, cut in half, or whole; of names that a folder was given or
lost since it was synchronised, each may have taken effect or not.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

_rename = Path.rename


class Disk:
    """What is on the disk of a folder, for work in this process.

    Args:
        folder: below which all is kept
        event: the so-manieth synchronisation or renaming at which the power is cut, from 1
        seed: of what is lost

    """

    def __init__(self, folder: Path, event: int, seed: int) -> None:
        self.folder, self.event, self.draw = folder, event, random.Random(seed)
        self.contents: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.held: list[int] = []
        self.counted = 0

    def watch(self) -> None:
        """Record all that this process does from now on; at the event, cut it and end it."""
        os.fsync = self._counts(self._fsync)
        os.replace = self._counts(os.replace)
        Path.replace = Path.rename = self._counts(_rename)  # type: ignore[method-assign]

    def _counts(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any) -> Any:
            self.counted += 1
            if self.counted == self.event:
                self.cut()
                os._exit(0)
            return call(*arguments)

        return counting

    def _fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        node = os.fstat(descriptor).st_ino
        self.held.append(os.dup(descriptor))  # so that no other file gets its number
        if path.is_dir():
            self.names[node] = _names(path)
        else:
            self.contents[node] = path.read_bytes()

    def cut(self) -> None:
        """Replace the folder by what its disk may hold."""
        paths = {path.stat().st_ino: path for path in (self.folder, *self.folder.rglob("*"))}
        left = self.folder.with_name("left")
        self._write(self.folder.stat().st_ino, left, paths)
        shutil.rmtree(self.folder)
        _rename(left, self.folder)

    def _write(self, node: int, place: Path, paths: dict[int, Path]) -> None:
        path = paths.get(node)
        if node in self.names or (path is not None and path.is_dir()):
            place.mkdir()
            now, before = _names(path) if path else {}, self.names.get(node, {})
            for name in sorted({*now, *before}):
                child = self.draw.choice([now.get(name), before.get(name)])
                if child is not None:
                    self._write(child, place / name, paths)
            return
        before = self.contents.get(node, b"")
        now = before if path is None else path.read_bytes()
        lost = [before, now[: len(now) // 2], now] if now != before else [before]
        place.write_bytes(self.draw.choice(lost))


def _names(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}

"""The artefact cache: finished work, found again by what it was made from.

An artefact is a folder whose name is the hash of its specification: every parameter, the hash of
the data, the code that makes it, the versions of the numerical packages, and what sums are taken
on. It is written beside its place and moved there in one step, with the hash of each of its files,
so a process killed at any moment leaves nothing that a later run would trust.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from speechunlearn.errors import ParameterError
from speechunlearn.files import remove, settle, sha256
from speechunlearn.provenance import REPOSITORY, in_checkout

log = logging.getLogger(__name__)

#: packages whose version changes numbers
STACK = ("torch", "transformers", "numpy", "scipy", "soxr", "soundfile")

_RECORD = "artefact.json"


@dataclass(frozen=True)
class Artefact:
    """Something that is made once, and how.

    Args:
        kind: subfolder of the cache
        specification: what it is made from; JSON types
        make: as of `Cache.find_or_make`
        title: what it is, for people
        call: arguments with which ``source`` gives it again, in another process
        source: description of the study that it is of; JSON types
        needs: returns those that making it begins with
        instead: one that serves as well, where it is there

    """

    kind: str
    specification: dict[str, Any]
    make: Callable[[Path, Path], None]
    title: str
    call: Mapping[str, Any]
    source: Mapping[str, Any]
    needs: Callable[[], list[Artefact]] = list
    instead: Artefact | None = None


class Cache:
    """Artefacts below one folder.

    Args:
        root: folder, made on first use; by default ``$SPEECHUNLEARN_CACHE``, else ``artefacts``
            in the repository, and the user's cache folder where the package is installed

    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(
            root or os.environ.get("SPEECHUNLEARN_CACHE") or _default_root()
        ).expanduser()
        self._trusted: set[Path] = set()

    def folder(self, kind: str, specification: dict[str, Any]) -> Path:
        """Return where an artefact is, or would be."""
        return self.root / kind / _digest(specification)

    def find(self, kind: str, specification: dict[str, Any]) -> Path | None:
        """Return the folder of a finished artefact, or None.

        One whose files do not have the recorded hashes is none, with a warning: it is made again.
        Nothing is removed here: another process may be making it.
        """
        folder = self.folder(kind, specification)
        trusted = folder in self._trusted and folder.is_dir()
        if not trusted and not _is_whole(folder):
            return None
        self._trusted.add(folder)
        return folder

    def get(self, artefact: Artefact) -> Path:
        """Return the folder of an artefact, making it if it is not there.

        Raises:
            NotMade: it is not there, of a store that makes nothing

        """
        return self.find_or_make(artefact.kind, artefact.specification, artefact.make)

    def find_or_make(
        self, kind: str, specification: dict[str, Any], make: Callable[[Path, Path], None]
    ) -> Path:
        """Return the folder of an artefact, making it if it is not there.

        Two processes that want the same one wait for each other.

        Args:
            kind: subfolder, e.g. ``original``
            specification: what it is made from; JSON types
            make: called with an empty folder to fill, and the path of a file that survives a
                kill, for work that can go on from where it stopped

        """
        whole = self.find(kind, specification)
        if whole is not None:
            return whole
        folder = self.folder(kind, specification)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            alone = FileLock(folder.with_suffix(".lock")).acquire()
        except OSError as error:
            raise ParameterError(f"cache: cannot write to {str(self.root)!r}: {error}") from error
        with alone:
            if self.find(kind, specification) is None:
                _make(folder, specification, make)
            self._trusted.add(folder)
            return folder


def _make(
    folder: Path, specification: dict[str, Any], make: Callable[[Path, Path], None]
) -> None:
    """Make an artefact, whose lock is held, and put it in its place."""
    unfinished = f".{folder.name}"
    _remove_all(folder.parent, f"{unfinished}*")  # of a killed process
    temporary = Path(tempfile.mkdtemp(prefix=f"{unfinished}-", dir=folder.parent))
    try:
        make(temporary, folder.with_suffix(".resume"))
        paths = sorted(path for path in temporary.rglob("*") if path.is_file())
        files = {str(path.relative_to(temporary)): sha256(path) for path in paths}
        record = {"specification": specification, "files": files}
        (temporary / _RECORD).write_text(json.dumps(record, indent=1, sort_keys=True))
        if os.path.lexists(folder):  # damaged: moved away in one step
            os.replace(folder, folder.with_name(f"{unfinished}-damaged"))
        settle(temporary, folder)
    finally:
        _remove_all(folder.parent, f"{unfinished}*")
    _remove_all(folder.parent, f"{folder.name}*.resume")


def _remove_all(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        remove(path)


def _is_whole(folder: Path) -> bool:
    """Return whether a folder holds an artefact as it was recorded, and of the right name."""
    if not os.path.lexists(folder):
        return False
    try:
        record = json.loads((folder / _RECORD).read_bytes())
        files, digest = dict(record["files"]), _digest(record["specification"])
        there = {
            str(path.relative_to(folder)) for path in folder.rglob("[!.]*") if not path.is_dir()
        }
        named = digest == folder.name and there == {*files, _RECORD}
        if named and all(sha256(folder / name) == content for name, content in files.items()):
            return True
        reason = "its files are not those of its record"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
    log.warning("%s is damaged, and is made again: %s", folder, reason)
    return False


def _default_root() -> Path:
    if in_checkout():
        return REPOSITORY / "artefacts"
    import pooch

    return Path(pooch.os_cache("speechunlearn"))


def stack() -> dict[str, str]:
    """Return the versions of the packages that change numbers."""
    return {name: _version(name) for name in STACK}


#: read from a package's metadata, which takes a while
_version = cache(version)


@cache
def code_hash(*modules: str) -> str:
    """Return a hash of these modules and of every module of the package that they import.

    Comments, docstrings and layout do not count: explaining code better redoes no work. Of a
    method's ``METHOD``, only what it runs counts: its title or what tuning tries changes no model.

    Args:
        modules: e.g. ``speechunlearn.models.training``, or another package's, whose own imports
        count too

    """
    closure, waiting = set[str](), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in closure:
            closure.add(module)
            waiting += _imports(module)
    text = "\n".join(f"{module}: {_stripped(module)}" for module in sorted(closure))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _source(module: str) -> Path | None:
    """Return the file of a module; None of what is none, or not written in Python."""
    path = REPOSITORY.joinpath(*module.split("."))
    candidates = [path.with_suffix(".py"), path / "__init__.py"]
    if _package(module) != "speechunlearn":
        with contextlib.suppress(ModuleNotFoundError):  # its parent is no package
            spec = importlib.util.find_spec(module)
            candidates = [Path(spec.origin)] if spec is not None and spec.origin else []
    files = (file for file in candidates if file.suffix == ".py" and file.is_file())
    return next(files, None)


def _tree(module: str) -> tuple[Path, ast.Module]:
    path = _source(module)
    assert path is not None, module
    return path, ast.parse(path.read_text())


@cache
def _imports(module: str) -> list[str]:
    """Return what a module imports of this package and of its own."""
    path, tree = _tree(module)
    inside = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imported, ours = [], ("speechunlearn", _package(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), inside)
            for name in (f"{source}.{alias.name}" for alias in node.names):
                is_module = _package(name) in ours and _source(name) is not None
                imported.append(name if is_module else source)
    return [name for name in imported if _package(name) in ours]


def _package(module: str) -> str:
    return module.partition(".")[0]


@cache
def _stripped(module: str) -> str:
    """Return a module's syntax tree without docstrings, as text."""
    _, tree = _tree(module)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
            and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "METHOD"
        ):  # name, title and needs come before
            node.value.args = node.value.args[3:]
            node.value.keywords = [k for k in node.value.keywords if k.arg in ("parameters", "run")]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _digest(specification: dict[str, Any]) -> str:
    text = json.dumps(specification, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]

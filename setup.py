"""Writes into what is built the commit and the package lock that it was built from."""

import json
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

sys.path.insert(0, str(Path(__file__).resolve().parent))

from speechunlearn import provenance  # noqa: E402


def record(package: Path) -> None:
    """Write the record; a source archive has one already, which stays."""
    built = provenance.built_from() or {
        "commit": provenance.commit(), "lock": provenance.lock_hash()
    }
    (package / provenance.BUILT_FROM).write_text(json.dumps(built) + "\n")


class Build(build_py):
    """The package, with the record."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            record(Path(self.build_lib) / "speechunlearn")


class Archive(sdist):
    """The source archive, with the record."""

    def make_release_tree(self, base_dir, files) -> None:
        super().make_release_tree(base_dir, files)
        record(Path(base_dir) / "speechunlearn")


setup(cmdclass={"build_py": Build, "sdist": Archive})

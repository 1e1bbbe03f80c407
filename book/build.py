"""Build the book, strictly: any warning is an error.

The pages and the executed notebooks are laid out in ``_build/source`` as Jupyter Book expects them.
The notebooks stand there with their outputs and are not run again. A build that is not clean
returns 0 from cached pages even after a failure, so everything built before is removed first.

    python book/build.py                                 # from the stored notebooks
    python book/build.py --notebooks _build/executed     # from notebooks that a run wrote
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def pages(toc: dict) -> list[str]:
    """All documents that ``_toc.yml`` names, without suffix and in reading order."""
    found = [toc["root"]]
    for part in toc["parts"]:
        found += [chapter["file"] for chapter in part["chapters"]]
    return found


def stage(notebooks: Path, source: Path) -> None:
    """Lay out configuration, prose pages and the notebooks of the table of contents."""
    shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns("*.py", "__*"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, source)
    (source / "notebooks").mkdir()
    for page in pages(yaml.safe_load((ROOT / "_toc.yml").read_text())):
        if page.startswith("notebooks/"):
            notebook = notebooks / f"{Path(page).name}.ipynb"
            if not notebook.is_file():
                sys.exit(f"{notebook}: _toc.yml names this chapter, but there is no such notebook")
            shutil.copy(notebook, source / "notebooks")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", metavar="DIR",
                        help="folder of executed notebooks (default: the stored ones)")
    notebooks = parser.parse_args().notebooks

    build = ROOT / "_build"
    source = build / "source"
    for old in (source, build / "html", build / ".doctrees", build / "jupyter_execute"):
        shutil.rmtree(old, ignore_errors=True)
    source.mkdir(parents=True)
    stage(notebooks, source)

    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    return subprocess.run(
        [jupyter_book, "build", source, "--path-output", ROOT, "--all", "-n", "-W", "--keep-going"],
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())

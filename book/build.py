"""Build the book, strictly: any warning is an error.

The pages, what is generated for them (see ``generate.py``) and the executed notebooks are laid out
in ``_build/source`` as Jupyter Book expects them. The notebooks stand there with their outputs and
are not run again; torch is not needed. A build that is not clean returns 0 from cached pages even
after a failure, so everything built before is removed first. A page that lacks something of what
its notebook made fails the build, too (see ``complete.py``).

    python book/build.py                                 # from the stored notebooks
    python book/build.py --notebooks _build/executed     # from notebooks that a run wrote

A chapter that the run did not write (it serves another task, or failed) is the stored one.
"""

import argparse
import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import complete
import yaml

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "notebooks"


def stage(notebooks: Path, source: Path) -> list[Path]:
    """Lay out configuration, prose pages and the chapters.

    Returns:
        the notebooks that are shown, where they were taken from

    """
    ignored = shutil.ignore_patterns("*.py", "__*", "captions.yml", "methods.yml", "_static")
    shutil.copytree(ROOT / "book", source / "book", ignore=ignored)
    shutil.copytree(ROOT / "book" / "_static", source / "_static")
    # pages show whole files of the package
    shutil.copytree(
        ROOT / "speechunlearn", source / "speechunlearn", ignore=shutil.ignore_patterns("__pyc*")
    )
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, source)
    (source / "notebooks").mkdir()
    shown = []
    for stored in sorted(STORED.glob("*.ipynb")):
        own = notebooks / stored.name
        shown.append(own if own.is_file() else stored)
        shutil.copy(shown[-1], source / "notebooks")
    if notebooks not in {path.parent for path in shown}:
        sys.exit(f"--notebooks {notebooks}: none of the chapters is there")
    return shown


def configure(content: dict[str, Any], numbers: dict[str, str], made: str) -> dict[str, Any]:
    """Return the configuration of a build.

    Args:
        content: that of ``_config.yml``
        numbers: those that stand in prose, by the name of their substitution
        made: version and day, for the foot of each page

    Returns:
        the same with these; without buttons where the repository has no public address

    """
    content = copy.deepcopy(content)
    content["parse"]["myst_substitutions"] = numbers
    content["html"]["extra_footer"] = f"<p>{made}</p>\n{content['html']['extra_footer']}"
    if not content["repository"]["url"]:
        del content["launch_buttons"], content["repository"]
        content["html"] |= {"use_issues_button": False, "use_repository_button": False}
    return content


def version_and_day() -> str:
    """Return what is built: the version, and the day of the last commit."""
    version = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    day = subprocess.run(
        ["git", "log", "-1", "--format=%cs"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return f"Version {version}" + (f", last updated {day}" if day else "")


def render(source: Path, out: Path, *arguments: str) -> int:
    """Run Jupyter Book on what is laid out, strictly, and return its exit status."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    # the extensions in book/, and the package of this checkout
    path = os.pathsep.join([str(ROOT / "book"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [jupyter_book, "build", source, "--path-output", out, *arguments, "-n", "-W",
         "--keep-going"],
        check=False, env=os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)},
    ).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notebooks", type=Path, default=STORED, metavar="DIR",
                        help="folder of executed notebooks (default: the stored ones)")
    parser.add_argument("--out", type=Path, default=ROOT, metavar="DIR",
                        help="_build is made here (default: the repository)")
    arguments = parser.parse_args()
    notebooks, out = arguments.notebooks.resolve(), arguments.out.resolve()

    build = out / "_build"
    source = build / "source"
    for old in (source, build / "html", build / ".doctrees", build / "jupyter_execute"):
        shutil.rmtree(old, ignore_errors=True)
    source.mkdir(parents=True)
    shown = stage(notebooks, source)
    import generate  # after the stage is known to be complete: it takes seconds

    config = source / "_config.yml"
    content = configure(
        yaml.safe_load(config.read_text()), generate.everything(source, shown), version_and_day()
    )
    config.write_text(yaml.safe_dump(content, sort_keys=False))

    failed = render(source, out, "--all")
    if failed:
        return failed
    lost = complete.check(shown, build / "html")
    if lost:
        print("\nPages do not show what their notebooks made:", *lost, sep="\n", file=sys.stderr)
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())

"""Each gate turns red when what it guards against is planted.

Unknown and mistyped parameters of a chapter are in test_context.py.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from conftest import REPOSITORY
from test_book_browser import broken_links

spec = importlib.util.spec_from_file_location("book_check", REPOSITORY / "book" / "check.py")
assert spec is not None and spec.loader is not None
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)

TEXT = """# %% [markdown]
# # A chapter

# %%
value = 0.25

# %%
print(f"UAR {value:.2f}")
value;

# %% tags=["nbval-ignore-output"]
import time

print(time.time())
"""


@pytest.fixture
def stored(tmp_path) -> Path:
    """An executed notebook, in step with its text form."""
    (tmp_path / "01_chapter.py").write_text(TEXT)
    notebook = jupytext.read(tmp_path / "01_chapter.py")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count = number
    for cell, text in ((code[1], "UAR 0.25\n"), (code[2], "1.0\n")):
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
    path = tmp_path / "01_chapter.ipynb"
    nbformat.write(notebook, path)
    return path


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def nbval(*paths: Path) -> subprocess.CompletedProcess:
    """Compare notebooks with the options that `make test` has."""
    recipe = subprocess.run(
        ["make", "--dry-run", "--always-make", "test"], cwd=REPOSITORY, capture_output=True,
        text=True, check=True,
    ).stdout.replace("\\\n", " ")
    found = re.search(r"(-p \S+ --nbval .*) +notebooks/\*\.ipynb", recipe)
    assert found, "make test does not compare the notebooks"
    options = found[1].split()
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *options, *paths],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )


def test_a_failing_cell_and_a_changed_number_are_red(stored):
    """Copies, compared at once: one as it was run, a number within its tolerance, each fault."""
    assert check.faults(stored) == []
    failing, other, near, unrun, empty = (
        stored.with_name(f"{name}.ipynb") for name in ("failing", "other", "near", "unrun", "empty")
    )
    for path in (failing, other, near, unrun, empty):
        shutil.copy(stored, path)
    changed(failing, "value = 0.25", "value = 1 / 0")
    changed(near, "UAR 0.25", "UAR 0.26")
    changed(other, "UAR 0.25", "UAR 0.65")
    for path, ran, number in ((unrun, None, 1), (empty, 3, 2)):
        notebook = nbformat.read(path, as_version=4)
        cell = [cell for cell in notebook.cells if cell.cell_type == "code"][number]
        cell.execution_count, cell.outputs = ran, []
        nbformat.write(notebook, path)
    done = nbval(stored, near, failing, other, unrun, empty)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith("FAILED")]
    for path in (stored, near):
        assert sum(path.name in line for line in lines if line.startswith("PASSED")) == 3
    # the cell after the failing one lacks its value, too
    names = [failing, failing, other, unrun, empty]
    assert len(failed) == len(names)
    assert all(path.name in line for path, line in zip(names, failed, strict=True))
    assert "ZeroDivisionError" in done.stdout
    for line in (
        "other.ipynb, cell 1, line 1: stored UAR 0.65, now UAR 0.25; 0.65 and 0.25 differ by 0.4, "
        "tolerance 0.05 (UAR)",
        "unrun.ipynb, cell 1: no stored output, it was not executed",
        "empty.ipynb, cell 2, outputs: stored no output, now stream stdout",
    ):
        assert line in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"execution_count": 2', '"execution_count": null', "not executed once from top"),
        ('"execution_count": 2', '"execution_count": 7', "not executed once from top"),
        ("value = 0.25", "value = 0.26", "differs from 01_chapter.py"),
        ('"output_type": "stream",\n     "text": [\n      "UAR',
         '"output_type": "error",\n     "ename": "E",\n     "evalue": "",\n     "traceback": [\n'
         '      "UAR', "stores an error"),
    ],
)
def test_a_notebook_that_is_not_as_it_was_run_is_red(stored, old, new, fault):
    text = stored.read_text()
    if old not in text:  # nbformat writes keys in an order of its own
        pytest.fail(f"{old!r} is not in the stored notebook:\n{text}")
    stored.write_text(text.replace(old, new, 1))
    assert any(fault in line for line in check.faults(stored))


def test_a_notebook_without_its_text_form_is_red(stored):
    stored.with_suffix(".py").unlink()
    assert any("no text form" in line for line in check.faults(stored))


def test_a_broken_link_is_red(tmp_path):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "a page.html").write_text('<h1 id="here">A</h1><img src="../b.svg">')
    (tmp_path / "b.svg").write_text("<svg/>")
    page = tmp_path / "index.html"
    good = '<a href="chapters/a%20page.html#here">A</a> <a href="https://x.example/gone">B</a>'
    page.write_text(good)
    assert broken_links(tmp_path, "index.html") == []
    assert broken_links(tmp_path, "chapters/a page.html") == []
    planted = ["chapters/b.html", "chapters/a%20page.html#there", "b.png", "a.wav"]
    bad = '<a href="{}">C</a> <a href="{}">D</a> <img src="{}"> <audio src="{}">'
    (tmp_path / "planted.html").write_text(good + bad.format(*planted))
    assert broken_links(tmp_path, "planted.html") == sorted(planted)


KEYS = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import tiny_study
from speechunlearn.lab.forget_sets import clips
study = tiny_study.study(Path(sys.argv[1]), Path(sys.argv[2]))
for method in ("ran_lab", "remain"):
    study.evaluate(method, clips(2, 0), 0)
print(len(list((Path(sys.argv[2]) / "evaluations").glob("*/made.json"))))
"""


def test_results_of_before_a_change_of_the_package_are_not_used(demos_root, tmp_path):
    package = tmp_path / "package" / "speechunlearn"
    shutil.copytree(
        REPOSITORY / "speechunlearn", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "package" / "data").symlink_to(REPOSITORY / "data")

    def cells() -> int:
        done = subprocess.run(
            [sys.executable, "-c", KEYS, demos_root, tmp_path / "cache", REPOSITORY / "tests"],
            env=os.environ | {"PYTHONPATH": str(package.parent)}, cwd=tmp_path,
            capture_output=True, text=True, check=True,
        )
        return int(done.stdout)

    assert cells() == 2
    changed(package / "methods" / "remain.py", "missed.mean() +", "1.0 * missed.mean() +")
    assert cells() == 3  # the other method's cell is still good

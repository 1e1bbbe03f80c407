"""The wings of the package have walls, and an import through one is found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import walls  # noqa: E402


def test_no_import_goes_through_a_wall():
    assert walls.broken() == []


def test_a_wing_may_import_only_from_wings_below_it():
    order = list(walls.MAY)
    for wing, may in walls.MAY.items():
        assert all(order.index(below) < order.index(wing) for below in may), wing
    assert "lab" not in walls.MAY["tool"] and "tool" not in walls.MAY["lab"]


def test_every_folder_of_the_package_is_a_wing():
    folders = {path.parent.name for path in walls.PACKAGE.glob("*/__init__.py")}
    assert folders == set(walls.MAY) - {"ground", "cli"}


def test_at_most_nine_floors():
    assert max(walls.floors().values()) <= 9


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("audit/metrics.py", "from speechunlearn.models import classifier", "audit may not import"),
        ("methods/delete.py", "from speechunlearn.audit.metrics import uar", "methods may not"),
        (
            "tool/output_folder.py", "def f():\n    from speechunlearn.lab import study",
            "tool may not"
        ),
        ("lab/results.py", "import speechunlearn.tool.output_folder", "lab may not import"),
        ("corpora/base.py", "from ..dataset import clips", "corpora may not import"),
        ("errors.py", "from .corpora.base import Clip", "ground may not import"),
    ],
)
def test_a_planted_import_is_found(tmp_path, file, line, said):
    copied = shutil.copytree(walls.PACKAGE, tmp_path / "speechunlearn")
    before = walls.broken(copied)
    with (copied / file).open("a") as text:
        text.write(f"\n\n{line}\n")
    (new,) = [fault for fault in walls.broken(copied) if fault not in before]
    assert said in new and file in new


def test_the_picture_is_drawn_from_the_imports_as_they_are():
    assert walls.PICTURE.read_text() == walls.picture(), "python book/walls.py draws it anew"
    assert "images/wings.svg" in (ROOT / "CONTRIBUTING.md").read_text()[:1500]


#: what takes a second or more to import, and what a request does not begin with
HEAVY = ["matplotlib", "scipy.optimize", "scipy.stats", "seaborn", "sklearn", "statsmodels",
         "torchaudio", "transformers"]


@pytest.mark.parametrize(
    ("line", "heavy"),
    [
        ("import speechunlearn.tool", [*HEAVY, "torch", "pandas", "scipy"]),
        ("from speechunlearn.tool import audit, forecast, forget", HEAVY),
    ],
)
def test_the_tool_loads_nothing_of_the_lab_and_little_else(line, heavy):
    code = (
        f"{line}\nimport sys\n"
        "print([m for m in sys.modules if m.startswith(('speechunlearn.lab', "
        f"'speechunlearn.chapters')) or m in {heavy}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"

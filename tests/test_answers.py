"""Each chapter begins with a question and its answer, which is computed from committed results."""

import json
import re
from pathlib import Path

import chapter_cells
import jupytext
import pandas as pd
import pytest

from benchmarks.summary import summary
from speechunlearn.chapters import pages
from speechunlearn.lab import results

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What the answer of each chapter says, executed alone."""
    texts: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patched:
        for path in NOTEBOOKS:
            paragraphs: list[str] = []
            patched.setattr(pages, "write", paragraphs.append)
            (cell,) = (
                cell for cell in chapter_cells.cells(path.stem)
                if "answer" in cell.metadata.get("tags", [])
            )
            chapter_cells.execute(cell.source, {})
            (texts[path.stem],) = paragraphs
    return texts


def test_every_chapter_begins_with_a_question_and_its_own_answer():
    for path in NOTEBOOKS:
        title, parameters, start, answer = jupytext.read(path).cells[:4]
        assert parameters.metadata["tags"] == ["parameters"] and "context.start(" in start.source
        assert re.fullmatch(r"# [^\n]+\n\n\*[^\n]+\?\*", title.source), path.name
        assert answer.metadata["tags"] == ["answer"] and "pages.write(" in answer.source


def test_an_answer_says_what_it_is_of(said):
    for name, text in said.items():
        assert re.search(r"RAVDESS|Arabic", text), name
        if name != "12_cost":  # counts of clips, which are the same in each run
            assert re.search(r"n = \d+ (runs?|requests)", text), name


def test_a_uar_is_that_of_the_predictions(said):
    """Recalls by hand, of each run: their mean is the first number of its sentence."""
    shown = results.committed("cpu", "ravdess").reported()
    shown = shown.select(method="ran_lab", setting="validation")
    clips = shown.evaluations.query("n_forget == 100")
    recalls = []
    for evaluation in clips["evaluation"]:
        table = shown.of_evaluation(evaluation, "forget")
        right = (table["label"] == table["prediction"]).groupby(table["label"]).mean()
        recalls.append(right.mean())
    assert len(recalls) == 3
    assert f"to {sum(recalls) / 3:.2f} [" in said["03_baselines"]


def test_what_a_request_closes_is_what_its_benchmark_says(said):
    rows = pd.read_csv(ROOT / "data" / "benchmarks" / "requests.csv", dtype={"kind": str})
    (row,) = summary(rows).query("kind == '16'").to_dict("records")
    for name in ("loss", "auc"):
        value = float(str(row[name]).split()[0])
        assert f"{value:.2f} [" in said["11_request"]


@pytest.mark.parametrize(
    "name",
    ["07_keyword_spotting", "07_keyword_spotting_class", "07_keyword_spotting_speaker",
     "08_speaker_identification"],
)
def test_a_uar_is_rounded_as_in_the_table_of_its_page(said, name):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    shown = "".join(
        "".join(output.get("data", {}).get("text/html", ""))
        for cell in notebook["cells"] if "answer" not in cell["metadata"].get("tags", [])
        for output in cell.get("outputs", [])
    ).replace("\xa0", " ")
    intervals = re.findall(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", said[name])
    assert len(intervals) == 6 and all(interval in shown for interval in intervals)

"""A planted change of an output is caught and named; what another processor changes is not."""

import copy
import math
import re

import nbformat
import pandas as pd
import pytest
from compare_outputs import KINDS, Table, compare, of_committed
from conftest import REPOSITORY

PLACE = "07_words.ipynb, cell 5"
ROWS = ("Original", "Retrained", "Ran. Lab.")


def shown(table: pd.DataFrame | str, mime: str = "text/markdown", **metadata: str) -> dict:
    """Return what a notebook stores of a table or a text."""
    data = {mime: table} if isinstance(table, str) else {
        "text/html": table._repr_html_(), "text/plain": repr(table),
    }
    return {"output_type": "display_data", "metadata": metadata, "data": data}


def said(text: str) -> dict:
    return {"output_type": "stream", "name": "stdout", "text": text}


def scores(**changed: list) -> pd.DataFrame:
    values = {
        "clips": [16, 16, 16],
        "forget UAR": ["1.00 [1.00, 1.00]", "0.46 [0.22, 0.72]", "0.50 [0.25, 0.53]"],
        "unseen UAR": ["0.42", "0.35", "0.39"],
        "attack AUC": ["0.92", "0.54", "0.58"],
        "seconds": [4.1, 3.8, 0.3],
        "passed": ["fails", "passes", "passes"],
    }
    return pd.DataFrame(values | changed, index=pd.Index(ROWS, name="method"))


def test_what_is_equal_passes_and_so_do_numbers_within_their_tolerance():
    assert compare(PLACE, [shown(scores())], [shown(scores())]) == []
    near = scores(
        **{"unseen UAR": ["0.42", "0.36", "0.39"], "seconds": [8.2, 7.6, 1.0],
           "forget UAR": ["1.00 [1.00, 1.00]", "0.45 [0.22, 0.70]", "0.50 [0.25, 0.53]"]}
    )
    assert compare(PLACE, [shown(scores())], [shown(near)]) == []
    line = "UAR, unseen (120 clips): before 0.417, after {}\nattack: AUC 0.824 (0.69{} to 0.928)\n"
    assert compare(PLACE, [said(line.format("0.417", 8))], [said(line.format("0.408", 1))]) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        # a number beyond its tolerance, the end of an interval, a count, a word
        ({"unseen UAR": ["0.42", "0.35", "0.69"]},
         "row 'Ran. Lab.', column 'unseen UAR': stored 0.39, now 0.69; 0.39 and 0.69 differ by "
         "0.3, tolerance 0.05 (UAR)"),
        ({"forget UAR": ["1.00 [1.00, 1.00]", "0.46 [0.22, 0.99]", "0.50 [0.25, 0.53]"]},
         "row 'Retrained', column 'forget UAR': stored 0.46 [0.22, 0.72], now 0.46 [0.22, 0.99]"),
        ({"clips": [16, 17, 16]}, "row 'Retrained', column 'clips': stored 16, now 17"),
        ({"passed": ["fails", "passes", "fails"]},
         "row 'Ran. Lab.', column 'passed': stored passes, now fails"),
        # NaN, and nothing, where a number stands
        ({"unseen UAR": ["0.42", "NaN", "0.39"]}, "column 'unseen UAR': stored 0.35, now NaN"),
        ({"seconds": [4.1, math.nan, 0.3]}, "column 'seconds': stored 3.8, now NaN"),
        ({"attack AUC": ["0.92", "–", "0.58"]}, "column 'attack AUC': stored 0.54, now –"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("reverse", [False, True])
def test_a_planted_cell_is_caught_and_named(changed, named, reverse):
    pair = [shown(scores())], [shown(scores(**changed))]
    found = compare(PLACE, *(pair[::-1] if reverse else pair))
    assert len(found) == 1 and found[0].startswith(f"{PLACE}, table, row ")
    if not reverse:
        assert named in found[0]


def test_a_table_of_another_shape_is_caught_and_what_is_missing_named():
    table = scores()
    for other, named in [
        (table.drop("Retrained"), "rows: stored 3, now 2; missing ['Retrained']"),
        (table.drop(columns="clips"), "columns: stored 7, now 6; missing ['clips']"),
        (table.rename(columns={"clips": "words"}), "missing ['clips']; new ['words']"),
        (table.rename_axis("model"), "missing ['method']; new ['model']"),
        (table.iloc[::-1], "rows: stored 3, now 3; in another order"),
    ]:
        (found,) = compare(PLACE, [shown(table)], [shown(other)])
        assert found.startswith(f"{PLACE}, table, ") and named in found


def test_a_missing_or_another_output_is_caught():
    table, text = shown(scores()), shown("**Some clips**")
    for stored, now, named in [
        ([], [table], "stored no output, now display_data text/html text/plain"),
        ([table, text], [table], "stored display_data text/html text/plain; display_data text/m"),
        ([table], [text], "now display_data text/markdown"),
        ([said("")], [{**said(""), "name": "stderr"}], "stored stream stdout, now stream stderr"),
    ]:
        (found,) = compare(PLACE, stored, now)
        assert found.startswith(f"{PLACE}, outputs: ") and named in found


def test_words_of_a_caption_and_of_text_are_equal():
    caption = "UAR of three methods, M = 2, learning rate 0.001."
    for old, new in [("three", "four"), ("M = 2", "M = 3"), ("0.001", "0.002")]:
        other = caption.replace(old, new)
        (found,) = compare(PLACE, [shown(caption)], [shown(other)])
        assert found.startswith(f"{PLACE}, line 1: ") and new in found
        (found,) = compare(PLACE, [shown("", alt=caption)], [shown("", alt=other)])
        assert found.startswith(f"{PLACE}, metadata: ") and new in found
    figure = shown("<Figure size 640x500 with 4 Axes>", "text/plain")
    (found,) = compare(PLACE, [figure], [shown("<Figure size 640x500 with 3 Axes>", "text/plain")])
    assert "4 Axes" in found and "3 Axes" in found
    (found,) = compare(PLACE, [said("a\nb\n")], [said("a\n")])
    assert found.startswith(f"{PLACE}, line 2: stored b, now None")


def test_numbers_of_no_listed_kind_and_committed_ones_must_be_equal():
    table = scores().rename(columns={"unseen UAR": "mood"})
    other = table.replace({"0.35": "0.36"})
    (found,) = compare(PLACE, [shown(table)], [shown(other)])
    assert "0.35 and 0.36: it must be equal (a number of no listed kind)" in found
    near = scores(**{"unseen UAR": ["0.42", "0.36", "0.39"]})
    (found,) = compare(PLACE, [shown(scores())], [shown(near)], exact=True)
    assert "row 'Retrained', column 'unseen UAR'" in found
    assert of_committed([
        "real = protocol.committed('cpu', 'ravdess')\npages.table(real)", "rows = run.rows()\nrows",
        "pages.claims(real)", "pages.committed_card('cpu', method)", "%time rows.round(2)",
    ]) == [True, False, True, True, False]


def test_rows_change_places_only_where_a_trained_column_sorts_them():
    def ranked(gaps: dict[str, str]) -> list:
        index = pd.Index(gaps, name="method")
        return [shown(pd.DataFrame({"data used": "forget", "average gap": gaps.values()}, index))]

    stored = ranked({"a": "0.116", "b": "0.120", "c": "0.300"})
    assert compare(PLACE, stored, ranked({"b": "0.115", "a": "0.119", "c": "0.300"})) == []
    (found,) = compare(PLACE, stored, ranked({"b": "0.120", "a": "0.116", "c": "0.300"}))
    assert "in another order" in found
    far = compare(PLACE, stored, ranked({"c": "0.100", "a": "0.116", "b": "0.120"}))
    assert len(far) == 1 and "row 'c', column 'average gap'" in far[0]


@pytest.mark.parametrize(
    ("values", "passes"),
    [
        (("-0.00", "0.09", "undecided", "0.01", "0.09", "holds"), True),
        (("0.06", "0.20", "holds", "0.06", "0.20", "undecided"), False),
        (("0.30", "0.40", "holds", "0.30", "0.40", "fails"), False),
        (("-0.01", "0.09", "undecided", "-0.01", "0.09", "unsure"), False),
    ],
)
def test_a_verdict_may_change_only_where_its_numbers_are_close_to_where_it_does(values, passes):
    def claims(low: str, high: str, verdict: str) -> list:
        table = pd.DataFrame({"claim": ["Adv. keeps more"], "N": 5, "value": "0.25",
                              "low": low, "high": high, "verdict": verdict})  # fmt: skip
        return [shown(table.set_index(["claim", "N"]))]

    found = compare(PLACE, claims(*values[:3]), claims(*values[3:]))
    assert (found == []) is passes
    assert passes or "row 'Adv. keeps more / 5', column 'verdict'" in found[0]


@pytest.mark.parametrize(("value", "passes"), [("0.80", True), ("0.83", True), ("0.92", False)])
def test_a_report_card_may_change_only_where_a_score_is_at_the_end_of_its_interval(value, passes):
    def card(word: str) -> list:
        table = pd.DataFrame({"score": ["attack on the loss, AUC"], "value": value,
                              "of one more retrained": "[0.26, 0.81]", "": word})  # fmt: skip
        return [shown(table.set_index("score"))]

    assert (compare(PLACE, card("fails"), card("passes")) == []) is passes


def test_the_classes_named_most_may_be_others_that_are_as_frequent():
    def named(text: str) -> list:
        return [shown(pd.DataFrame({"instead": [text]}, ["SSD"]))]

    stored = named("stop 0.42, vai 0.17, su 0.17")
    assert compare(PLACE, stored, named("stop 0.42, su 0.17, no 0.08")) == []
    found = compare(PLACE, stored, named("vai 0.83, stop 0.17, su 0.08"))
    assert len(found) == 2 and all("row 'SSD', column 'instead'" in line for line in found)


def test_names_that_span_cells_are_read_as_pandas_writes_them():
    columns = pd.MultiIndex.from_product([["N = 5", "N = 10"], ["a", "b"]], names=[None, "UAR"])
    rows = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["method", "seed"])
    table = pd.DataFrame([[i, 2 * i, 3 * i, 4 * i] for i in range(4)], rows, columns)
    from bs4 import BeautifulSoup

    read = Table.of(BeautifulSoup(table._repr_html_(), "html.parser").table)
    assert read.corner == ["UAR", "method", "seed"]
    assert read.columns == ["N = 5 / a", "N = 5 / b", "N = 10 / a", "N = 10 / b"]
    assert read.rows == ["a / 1", "a / 2", "b / 1", "b / 2"]
    assert read.cells[3] == ["3", "6", "9", "12"]


# --- a wrong model, in the stored chapters themselves


def code_cells(stem: str) -> list:
    path, *_ = sorted((REPOSITORY / "notebooks").glob(f"{stem}_*.ipynb"))
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def swapped(outputs: list, one: str, other: str) -> list:
    """Return outputs in whose tables one row has the values of another."""
    from bs4 import BeautifulSoup

    outputs = copy.deepcopy(outputs)
    for output in outputs:
        if "<table" in output.get("data", {}).get("text/html", ""):
            page = BeautifulSoup(output["data"]["text/html"], "html.parser")
            named = {row("th")[-1].get_text(): row for row in page("tr") if row("td")}
            for old, new in zip(named[one]("td"), named[other]("td"), strict=True):
                old.string = new.get_text()
            output["data"]["text/html"] = str(page)
    return outputs


@pytest.mark.parametrize(
    ("chapter", "table", "wrong", "instead"),
    [
        # the original in place of the unlearned or the retrained model, and the other way round
        ("03", "unseen", "Ran. Lab.", "Original"),
        ("03", "unseen", "Retrained", "Original"),
        ("05", "unseen", "Adv. + Ela.", "Original"),
        ("07", "unseen", "DELETE", "Original"),
        ("07", "unseen", "Original", "Retrained"),
        # one method in place of another
        ("03", "unseen", "Remain. Unl.", "Ran. Lab."),
        ("10", "average gap", "DELETE", "Ran. Lab."),
    ],
)
def test_a_wrong_model_does_not_pass(chapter, table, wrong, instead):
    for cell in reversed(code_cells(chapter)):  # the smoke run's tables are the last
        text = "".join(o.get("data", {}).get("text/html", "") for o in cell.outputs)
        if f"<th>{wrong}</th>" in text and f"<th>{instead}</th>" in text and table in text:
            break
    else:
        pytest.fail(f"chapter {chapter} has no table with {wrong} and {instead}")
    assert compare("", cell.outputs, cell.outputs) == []
    found = compare("", cell.outputs, swapped(cell.outputs, wrong, instead))
    row = re.compile(rf"row '([^']* / )?{re.escape(wrong)}'")
    assert found and all(row.search(line) for line in found)


def test_every_kind_is_declared_once_and_no_share_has_a_tolerance_that_says_nothing():
    names = [kind.name for kind in KINDS]
    assert len({*names}) == len(names)
    counted = {kind.name for kind in KINDS if max(kind.tolerance, kind.interval or 0) > 0.34}
    assert counted == {
        "a machine's", "steps of relearning", "answers changed", "scores outside",
        "cards that pass", "least share noticed, percent", "least share noticed, clips",
        "steps of a descent", "share of the way left, percent",
    }


@pytest.mark.parametrize(
    ("column", "now", "passes"),
    [
        ("seconds", "998.0", True), ("peak memory (MiB)", "998", True),
        ("clips forward and backward", "1,234", True),
        ("clips forward and backward", "1,235", False),
        ("clips forward and backward", "998", False),
    ],
)  # fmt: skip
def test_thousands_are_one_number(column, now, passes):
    tables = (shown(pd.DataFrame({column: [value]})) for value in ("1,234", now))
    assert (compare(PLACE, *([table] for table in tables)) == []) is passes

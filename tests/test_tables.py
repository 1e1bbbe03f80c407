"""A table is typeset for readers: counts, probabilities, gaps, and numbers to the right."""

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from speechunlearn.chapters import figures, tables
from speechunlearn.lab.results import TITLES


@pytest.mark.parametrize(
    ("values", "name", "cells"),
    [
        ([1, 2], "", ["1", "2"]),
        ([10.0, 1234567.0], "", ["10", "1,234,567"]),  # counts that a missing value made floats
        ([1.0, 0.0], "", ["1.00", "0.00"]),  # rates, which happen to be whole
        ([12.5, 3.0], "", ["12.50", "3.00"]),
        ([0.125, float("nan")], "", ["0.13", "–"]),  # halves go up
        ([None, pd.NA, "RAVDESS"], "", ["–", "–", "RAVDESS"]),
        ([0.0009999, 0.001, 0.25, 1.0], "p", ["< .001", ".001", ".250", "1.000"]),
        ([np.int64(7), np.float64(9)], "", ["7", "9"]),
        ([True, False], "", ["True", "False"]),
        ([], "", []),
    ],
)
def test_a_column_is_typeset(values, name, cells):
    assert tables.typeset(values, name) == cells


def test_columns_of_numbers_are_to_the_right():
    text = tables.markdown(
        ["Method", "p", "Interval", "Cards", "Nothing"],
        [["a | b", 0.2, "0.1 [0.0, 0.2]", "3 of 12", None], ["c\nd", 0.0, "–", "−1", ""]],
    )
    assert text.splitlines() == [
        "| Method | p | Interval | Cards | Nothing |",
        "| --- | ---: | ---: | ---: | --- |",
        "| a \\| b | .200 | 0.1 [0.0, 0.2] | 3 of 12 | – |",
        "| c d | < .001 | – | −1 |  |",
    ]
    assert tables.markdown(["a"], []).splitlines() == ["| a |", "| --- |"]


def test_a_method_has_one_marker_and_colour_by_name_and_by_title():
    pairs = {(s["marker"], tuple(s["color"])) for s in figures.OF_METHOD.values()}
    assert len(pairs) == len(TITLES)  # no two methods look alike
    assert all(figures.OF_METHOD[name] == figures.OF_METHOD[TITLES[name]] for name in TITLES)
    curves = pd.DataFrame({"AMUN": [0.1, 0.2], "before": [0.3, 0.4]})
    figure, axis = figures.panels(2, 2)
    figures.curves(axis, curves)
    assert axis.lines[0].get_marker() == figures.OF_METHOD["amun"]["marker"]
    assert axis.lines[0].get_color() == figures.OF_METHOD["amun"]["color"]
    figure.clear()


def test_a_notebook_shows_every_table_typeset_by_readers_names():
    index = pd.MultiIndex.from_tuples([(10, "adv"), (30, "adv_ela")], names=["n_forget", "method"])
    frame = pd.DataFrame(
        {"seconds": [1.25, 30.0], "forward_backward": [1200.0, 80.0], "uar": [0.125, np.nan],
         "data used": ["forget", "none"], "p_z": [0.5, 0.0]}, index=index,
    )  # fmt: skip
    page = BeautifulSoup(tables.html(frame), "html.parser")
    rows = [[cell.get_text() for cell in row(["th", "td"])] for row in page("tr")]
    assert rows == [
        ["", "", "seconds", "clips forward and backward", "uar", "data used", "p, z-test"],
        ["N", "method", "", "", "", "", ""],
        ["10", "Adv.", "1.3", "1,200", "0.13", "forget", ".500"],
        ["30", "Adv. + Ela.", "30.0", "80", "–", "none", "< .001"],
    ]
    for row in page("tr"):
        right = ["number" in cell.get("class", []) for cell in row(["th", "td"])[-5:]]
        assert right == [True, True, True, False, True]
    assert tables.html(frame.iloc[:0]).count("<tr") == 2

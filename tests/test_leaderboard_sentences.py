"""What README.md and the book say of the leaderboards is what was measured.

Everything is computed anew from the committed predictions: the rankings first, to the last digit
that is kept, then each number of the sentences from these.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from speechunlearn import methods
from speechunlearn.audit import report_card, scoring
from speechunlearn.lab import leaderboard, tuning
from speechunlearn.lab.experiments import COMPONENT, NOT_CONCATENATED
from speechunlearn.lab.results import IN_SEQUENCE

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()

FOLDERS = {
    "RAVDESS emotions": "cpu-ravdess",
    "Arabic words": "cpu-arabic_speech_commands",
    "Arabic speakers": "cpu-arabic_speech_commands-speaker",
}

#: how the sentences begin
START = "**First of the forget-set-only methods:**"
#: tables are kept with six digits
LAST_DIGIT = 1.01e-6


@pytest.fixture(scope="module")
def said(generated):
    """The sentences, in one line."""
    return " ".join((generated / "leaderboards_said.md").read_text().split())


@pytest.fixture(scope="module")
def boards():
    return {words: leaderboard.committed(folder) for words, folder in FOLDERS.items()}


@pytest.fixture(scope="module")
def rankings(boards):
    """Computed anew from the predictions; what the audit says of a model, from its scores."""
    return {
        words: leaderboard.ranking(
            found.results, found.scores, generator=np.random.default_rng(0)
        ).set_index("method")
        for words, found in boards.items()
    }


@pytest.mark.parametrize("words", FOLDERS)
def test_a_committed_ranking_is_that_of_its_predictions(words, boards, rankings):
    pd.testing.assert_frame_equal(
        boards[words].ranking.set_index("method"), rankings[words],
        rtol=0, atol=LAST_DIGIT, check_dtype=False,
    )


@pytest.mark.parametrize("words", FOLDERS)
def test_what_a_ranking_shows_is_computed_a_second_time(words, boards, rankings):
    """Without the bootstrap's code: gap, halves, answers changed, from every table of clips."""
    found, ranking = boards[words], rankings[words]
    n_labels = found.results.n_labels
    runs = list(leaderboard.runs(found.results).values())
    retrained = [[scoring.scores(t, n_labels) for t in r.retrained] for r in runs]
    distances = (
        report_card.average_gap, report_card.forgetting_distance, report_card.utility_distance
    )
    for method in ranking.index.drop("retrain"):
        own = [scoring.scores(r.judged[method], n_labels) for r in runs]
        by_hand = [
            np.mean([distance(o, r) for o, r in zip(own, retrained, strict=True)])
            for distance in distances
        ]
        shown = ranking.loc[method, ["gap", "forgetting", "utility"]].tolist()
        assert shown == pytest.approx(by_hand, abs=1e-9)
        apart = []
        for run in runs:
            both = run.started_from(method).merge(run.judged[method], on=["split", "hash"])
            apart.append((both["prediction_x"] != both["prediction_y"]).mean())
        assert ranking.loc[method, "changed"] == pytest.approx(np.mean(apart), abs=1e-9)
    left_out = [
        [distance(one, group[:i] + group[i + 1 :]) for group in retrained
         for i, one in enumerate(group)]
        for distance in distances
    ]
    assert ranking.loc["retrain", ["gap", "forgetting", "utility"]].tolist() == pytest.approx(
        [np.mean(d) for d in left_out], abs=1e-9
    )
    assert (ranking["clips"] == sum(len(r.retrained[0]) for r in runs)).all()
    # what is changed of a method, and what is asked for in several requests, by the same gap
    evaluations = found.results.evaluations
    title = methods.get(leaderboard.OURS).title
    tables = [
        (found.component_ablation, "nothing", ""), (found.sequential, f"{title}, at once", "")
    ]
    tables += [(found.component_ablation, v.removeprefix(COMPONENT), v)
               for v in set(evaluations["variant"])
               if v.startswith(COMPONENT)]
    several = (IN_SEQUENCE, f"{IN_SEQUENCE}, {NOT_CONCATENATED}")
    tables += [(found.sequential, f"{title}, {v}", v) for v in several]
    for table, name, variant in tables:
        rows = evaluations[
            (evaluations["method"] == leaderboard.OURS) & (evaluations["variant"] == variant)
        ]
        in_order = rows.sort_values("seed")["evaluation"]
        own = [
            scoring.scores(found.results.of_evaluation(evaluation), n_labels)
            for evaluation in in_order
        ]
        by_hand = [
            np.mean([distance(o, r) for o, r in zip(own, retrained, strict=True)])
            for distance in distances
        ]
        shown = table.loc[name, ["gap", "forgetting", "utility"]].tolist()
        assert shown == pytest.approx(by_hand, abs=LAST_DIGIT)


@pytest.mark.parametrize("words", FOLDERS)
def test_cards_are_counted_as_the_audit_counts_them(words, boards):
    """Of the rows that sentences speak of; a card leaves one retrained model out."""
    found = boards[words]
    passed = dict.fromkeys(("original", leaderboard.OURS, "retrain"), 0)
    (seed, forget_id), run = next(iter(leaderboard.runs(found.results).items()))
    for i, left_out in enumerate(run.retrained):
        auditor = report_card.Auditor(
            run.retrained[:i] + run.retrained[i + 1 :], run.originals,
            n_labels=found.results.n_labels,
        )
        judged = {**run.judged, "retrain": left_out}
        for name in passed:
            passed[name] += auditor.card(judged[name]).passed
    scores = found.scores[(found.scores["seed"] == seed) & (found.scores["forget_id"] == forget_id)]
    models = scores.drop_duplicates(["method", "model"])
    counted = models.groupby("method")[["cards", "cards_passed"]].sum()
    assert counted.loc[list(passed), "cards_passed"].to_dict() == passed
    assert (counted["cards"] == len(run.retrained)).all()


def percent_closed(ranking: pd.DataFrame, method: str) -> float:
    distance = ranking["forgetting"]
    return 100 * (distance["original"] - distance[method]) / distance["original"]


def sentences(said: str, rankings: dict[str, pd.DataFrame], boards: dict) -> None:
    """Compare every number of the sentences with the tables.

    Raises:
        AssertionError: one that is another, or that nothing is compared with

    """
    title = methods.get(leaderboard.OURS).title
    said = said[said.index(START) :]
    compared = set()

    def numbers(pattern: str, *values: float, digits: int = 0) -> None:
        matches = list(re.finditer(pattern, said))
        assert len(matches) == 1, (pattern, len(matches))
        match = matches[0]
        expected = tuple(f"{value + 1e-9:.{digits}f}" for value in values)
        assert match.groups() == expected, (pattern, match.groups(), expected)
        compared.update(match.span(i + 1) for i in range(len(values)))

    for words, ranking in rankings.items():
        ours, original, retrained = (
            ranking.loc[name] for name in (leaderboard.OURS, "original", "retrain")
        )
        forget_only = ranking[ranking["forget_only"]].sort_values("gap")
        best = forget_only.index[0]
        assert f"{methods.get(best).title} on {words}" in said
        others = forget_only["p"].drop(best)
        numbers(rf"(\d+) of the (\d+) others on {words}", (others < 0.05).sum(), len(others))
        numbers(
            rf"(\S+) on {words} \(retrained: (\S+)\)", ours["utility"], retrained["utility"],
            digits=3,
        )
        numbers(rf"(\d+) % on {words}", percent_closed(ranking, leaderboard.OURS))
        numbers(
            rf"on {words} (\d+) of (\d+) of self-distillation, (\d+) of (\d+) of the original, "
            r"(\d+) of (\d+) of retrained models",
            *(row[n] for row in (ours, original, retrained) for n in ("cards_passed", "cards")),
        )
        once, five = (
            boards[words].sequential.loc[f"{title}, {how}"] for how in ("at once", IN_SEQUENCE)
        )
        numbers(
            rf"from (\S+) to (\S+) and from (\S+) to (\S+) on {words}",
            *(row[half] for half in ("forgetting", "utility") for row in (once, five)), digits=3,
        )
        # what the words rest on
        assert {best, *others.index} >= {"amun", leaderboard.OURS}
        assert best in ("amun", leaderboard.OURS)
        assert others.get("amun", 1) > 0.05 < others.get(leaderboard.OURS, 1)  # never told apart
        assert ours["utility"] <= retrained["utility"] + 0.005  # 'keep utility'
        assert 50 < percent_closed(ranking, leaderboard.OURS) < 90  # 'close part'
    emotions = rankings["RAVDESS emotions"]
    points = 100 * (emotions.loc["original", "retain_uar"] - emotions.loc["amun", "retain_uar"])
    numbers(
        r"On RAVDESS emotions it closes (\d+) % of the distance in forgetting, at a cost of (\d+) "
        "points of UAR on the retain set", percent_closed(emotions, "amun"), points,
    )
    numbers(r"n = (\d+) runs", emotions["runs"].iloc[0])
    for folder in FOLDERS.values():
        trials = pd.read_csv(tuning.FOLDER / f"{folder}.csv")["method"].value_counts()
        single = trials[["sisa", "sisa_plus"]]
        (most,) = trials.drop(single.index).unique()
        numbers(
            r"Trials: (\d+) of each method, but (\d+) of SISA and of SISA\+\+", most, single.max()
        )
    assert leaderboard.REDESIGNED in said
    every = {match.span() for match in re.finditer(r"\d[\d.]*\d|\d", said)}
    assert every == compared, [said[i:j] for i, j in every ^ compared]


def test_every_number_of_the_sentences_is_that_of_the_tables(said, rankings, boards):
    sentences(said, rankings, boards)


def test_readmes_table_and_words_are_those_of_the_ranking(rankings, boards):
    """Every number of README's result, computed a second time."""
    result = README.partition("## A result")[2].partition("\n## ")[0]
    ranking = rankings["RAVDESS emotions"]
    others = ranking.drop(index=["original", "retrain", leaderboard.OURS]).sort_values("gap")
    best = {alone: others.index[others["forget_only"] == alone][0] for alone in (True, False)}
    rows = [line.split(" | ") for line in result.splitlines() if line.startswith("| ")][2:]
    shown = ["original", leaderboard.OURS, best[True], best[False], "retrain"]
    for row, method in zip(rows, shown, strict=True):
        expected = ranking.loc[method]
        assert row[1:] == [
            f"{expected['forgetting']:.3f}", f"{expected['utility']:.3f}",
            f"{expected['cards_passed']} |",
        ]
    assert rows[2][0].startswith(f"| {methods.get(best[True]).title}: best other forget-set-only")
    assert rows[3][0].startswith(f"| {methods.get(best[False]).title}: best method with retained")
    assert f"passed, of {ranking['cards'].iloc[0]} |" in result
    clips = boards["RAVDESS emotions"].results.sizes[-1]
    assert f"to forget {clips} clips of RAVDESS" in result
    assert f"Means over {ranking['runs'].iloc[0]} runs" in result
    assert "three\ncorpora" in result and len(FOLDERS) == 3
    # but for that of the forget set's size, that of the runs, and the table's, no other number
    prose = "\n".join(line for line in result.splitlines() if not line.startswith("|"))
    assert re.findall(r"\d+", prose) == [str(clips), str(ranking["runs"].iloc[0])]
    assert f"{len(methods.METHODS) - 1} methods beside retrained models" in README


@pytest.mark.parametrize(
    ("pattern", "by"),
    [
        (r"it closes (\d+) %", "99"), (r"of 12 of the original, (\d+) of 12", "7"),
        (r"at a cost of (\d+) points", "3"), (r"and from (\d\.\d+) to", "0.001"),
        (r"tells apart from it (\d+) of", "14"), (r"\(retrained: (\d\.\d+)\)", "0.5"),
        (r"n = (\d+) runs, Holm", "30"), (r"(% on Arabic words) and", "% on English words"),
    ],
)
def test_a_planted_number_is_caught(pattern, by, said, rankings, boards):
    match = re.search(pattern, said)
    assert match is not None and match[1] != by
    planted = said[: match.start(1)] + by + said[match.end(1) :]
    with pytest.raises(AssertionError):
        sentences(planted, rankings, boards)


def test_the_leaderboard_and_the_methods_page_hold_the_same_sentences():
    """They are written once, by ``book/boards.py``."""
    for page in ("leaderboard.md", "methods/perturbed.md"):
        assert "generated/leaderboards_said.md" in (ROOT / "book" / page).read_text()
    chapter = (ROOT / "notebooks" / "10_leaderboard.py").read_text()
    assert "redesigned after it had been scored on the reported forget sets" in chapter
    assert "SISA and SISA++ have nothing to tune and got one" in chapter
    for page in ("sisa.md", "sisa_plus.md"):
        assert "it had one trial" in (ROOT / "book" / "methods" / page).read_text()


def test_rows_that_are_the_original_or_each_other_are_marked(rankings):
    """Hardly an answer of theirs is another than before; SCRUB+R is SCRUB to the last bit."""
    words = rankings["Arabic words"]
    assert words.loc["scrub_r", "same_as"] == "scrub"
    assert words.loc["ssd", "same_as"] == "original" and words.loc["ssd", "changed"] == 0
    assert (words.loc[["fisher_forgetting", "adv", "adv_ela"], "changed"] < 0.01).all()

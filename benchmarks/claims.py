"""What Table 1 and Figure 2 say of the claims of Ren et al. 2025, by section 8 of the protocol.

An interval is a bootstrap that draws runs, then speakers within each that was drawn, the same for
both sides of a difference; beside it stands the t interval over runs, and the wider one decides.
Of a score that a row has no answers for (AUC, retain UAR), runs alone are drawn; in Q2, the forget
UARs at which a curve is read stay. In a forget set, classes that a draw of speakers lacks are left
out, and those that the whole set lacks count as 0.

Within a family, which is a statistic of one method at several N, errors are Holm's. In turn, each
interval is taken at an error of .05 (.1 for R6) over the number of those that are left. The one
that is furthest beyond its limit, in half-widths, is decided and leaves; where none is beyond, all
that are left are undecided at this error. So the verdicts hold for the whole family; the intervals,
which are shown at the error of their turn, do not hold all at once. R3 and R3b are one family of
four N. What is said of every N holds where it holds at each, and fails where it fails at one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import norm, t

from benchmarks import judgement
from speechunlearn.audit import statistics
from speechunlearn.errors import ParameterError

#: a guess among seven classes, as section 8 writes it
CHANCE = 0.143
#: R6: differences that are taken for none
MARGIN = 0.05
RESAMPLES = 10_000
POWER = 0.8
#: methods with an attack, and what the Fisher information is taken by
ATTACKS = (("adv", ""), ("adv_ela", "clip"), ("adv_ela", "batch"))
#: of what `judged` returns, what is printed
PRINTED = [
    "claim", "method", "fisher_per", "n", "statistic", "paper", "value", "low", "high",
    "decided_by", "runs", "detectable", "verdict", "together",
]  # fmt: skip
BETTER = "better of adv, adv_ela"
#: claims that were not run, or that the setting cannot show: section 8
NOT_TESTABLE = {"R7b": "the level is DEMoS's", "R10": "licence and weights"}


class Cell(NamedTuple):
    """One cell of the table; tau is 0 without an attack."""

    method: str
    n: int
    fisher_per: str = ""
    tau: float = 0.0

    @property
    def name(self) -> str:
        """In messages."""
        return " ".join(str(value) for value in self if value)


class Rows(NamedTuple):
    """The rows of a run.

    Attributes:
        name: of the run, in messages
        of: each cell's row, with ``answers`` and ``forget_answers`` as numbers of classes
        unseen: label and speaker, as numbers, of the clips that ``answers`` are of
        forget: the same of the largest forget set, of which smaller ones are the first

    """

    name: str
    of: Mapping[Cell, Mapping[str, Any]]
    unseen: pd.DataFrame
    forget: pd.DataFrame


class Estimate(NamedTuple):
    """A mean over runs.

    Attributes:
        runs: value of each run
        drawn: mean on each resample

    """

    runs: Float[np.ndarray, " runs"]
    drawn: Float[np.ndarray, " resamples"]

    def ends(self, error: float) -> dict[str, tuple[float, float]]:
        """Return both intervals, low and high end, at a two-sided error."""
        low, high = np.quantile(self.drawn, [error / 2, 1 - error / 2])
        t_ends = statistics.t_interval(self.runs, 1 - error)[1:]
        return {"bootstrap": (float(low), float(high)), "t": t_ends}

    def wider(self, error: float) -> str:
        """Return the name of the interval that decides."""
        ends = self.ends(error)
        return max(ends, key=lambda name: ends[name][1] - ends[name][0])

    def deciding(self, error: float) -> tuple[float, float]:
        """Return low and high end of the wider interval."""
        return self.ends(error)[self.wider(error)]

    def detectable(self, error: float) -> float:
        """Return how far beyond a limit the mean must lie to be told from it at power `POWER`.

        The half-width times 1 + q(power) / q(1 - error / 2), with the quantiles q of t where its
        interval is the wider one, of the normal distribution else.
        """
        low, high = self.deciding(error)
        by_t = self.wider(error) == "t"
        quantile = partial(t.ppf, df=len(self.runs) - 1) if by_t else norm.ppf
        return (high - low) / 2 * (1 + float(quantile(POWER) / quantile(1 - error / 2)))


class Sample:
    """Scores of some runs, as they are and on the resamples.

    Args:
        runs: with the same cells each
        n_labels: number of classes
        resamples: how many
        seed: of the draws

    """

    def __init__(
        self, runs: Sequence[Rows], n_labels: int, resamples: int = RESAMPLES, seed: int = 0
    ) -> None:
        self.runs, self.n_labels, self.seed = runs, n_labels, seed
        generator = np.random.default_rng(seed)
        self._drawn = generator.integers(len(runs), size=(resamples, len(runs)))
        self._scores: dict[tuple[str, int, Cell], np.ndarray] = {}

    @property
    def n_unseen(self) -> int:
        """Number of unseen clips, of which those of two runs count once."""
        return len(set().union(*(run.unseen.index for run in self.runs)))

    def score(self, measure: str, run: int, cell: Cell) -> Float[np.ndarray, " one_and_draws"]:
        """Return a score of a run as it is, then each time that the run was drawn.

        Args:
            measure: ``unseen``, ``forget`` (UAR over the classes that are there), ``forget_all``,
                or what a row has one number of
            run: number of the run
            cell: of the table

        Raises:
            ParameterError: a row whose answers give another UAR than it has

        """
        if (key := (measure, run, cell)) not in self._scores:
            row, (name, _, unseen, forget) = self.runs[run].of[cell], self.runs[run]
            times = int((self._drawn == run).sum())
            if measure == "unseen":
                scores = self._uars(row["answers"], unseen, times, [run])
            elif measure == "forget":
                clips = forget.head(cell.n)
                scores = self._uars(row["forget_answers"], clips, times, [run, cell.n])
            elif measure == "forget_all":
                present = forget["label"].head(cell.n).nunique()
                scores = self.score("forget", run, cell) * present / self.n_labels
            else:
                scores = np.full(1 + times, float(row[measure]))
            if not math.isclose(scores[0], row[measure], abs_tol=2e-6):
                raise ParameterError(
                    f"{name}, {cell.name}: {measure} {row[measure]}, but "
                    f"{scores[0]:.6g} by its answers"
                )
            self._scores[key] = scores
        return self._scores[key]

    def _uars(
        self, answers: np.ndarray, clips: pd.DataFrame, times: int, place: list[int]
    ) -> np.ndarray:
        if len(answers) != len(clips):
            return np.full(1 + times, np.nan)
        speakers = pd.factorize(clips["speaker"])[0]
        n = int(speakers.max()) + 1
        # by place, so that every cell of a run has the same
        generator = np.random.default_rng([self.seed, *place])
        counts = np.concatenate(
            [np.ones((1, n), int), generator.multinomial(n, np.full(n, 1 / n), size=times)]
        )
        return judgement.uars(answers[None], clips["label"].to_numpy(), speakers, counts)[0]

    def estimate(self, of_run: Callable[[int], np.ndarray]) -> Estimate:
        """Return the mean over runs.

        Args:
            of_run: returns a statistic of a run, as it is and each time that the run was drawn

        """
        values = [of_run(run) for run in range(len(self.runs))]
        slots = np.empty(self._drawn.shape)
        for run, value in enumerate(values):
            slots[self._drawn == run] = value[1:]
        return Estimate(np.array([value[0] for value in values]), slots.mean(axis=1))


@dataclass(frozen=True)
class Question:
    """A claim, or the part of it that one interval decides.

    Args:
        claim: its number
        method: that it is about
        n: that it is about, as it is shown
        statistic: in words
        measure: of `Sample.score`
        first: cells whose score, the mean over them, the claim is about
        second: cells whose score is taken off
        less: a number that is taken off
        above: where the claim holds: above this
        below: and below this
        over: ``mean``, ``sd`` (over the cells of a side) or ``equal`` (unseen UAR where a side's
            forget UAR is that of the retrained model, by interpolation over tau)
        table: whose runs are asked
        paper: its number
        level: of the interval

    """

    claim: str
    method: tuple[str, str]
    n: str
    statistic: str
    measure: str
    first: tuple[Cell, ...]
    second: tuple[Cell, ...] = ()
    less: float = 0.0
    above: float = -math.inf
    below: float = math.inf
    over: str = "mean"
    table: str = "validation"
    paper: str = ""
    level: float = 0.95
    #: what tells families of one claim and method apart
    part: str = ""

    @property
    def family(self) -> tuple[str, ...]:
        """Questions with the same one share an error."""
        return self.claim[:2], *self.method, self.part

    @property
    def together(self) -> tuple[str, ...]:
        """Questions with the same one are what a claim says of a method."""
        return self.claim, *self.method, self.n if self.claim == "Q1" else ""

    @property
    def limit(self) -> str:
        """Where it holds, in words."""
        ends = {"above": self.above, "below": self.below}
        return " and ".join(f"{name} {end:g}" for name, end in ends.items() if math.isfinite(end))

    def estimate(self, sample: Sample) -> Estimate:
        """Return what it comes to in some runs."""

        def side(cells: Sequence[Cell], run: int) -> np.ndarray:
            scores = np.stack([sample.score(self.measure, run, cell) for cell in cells])
            if self.over == "equal":
                rows = sample.runs[run].of
                bar = rows[Cell("retrain", cells[0].n)]["forget"]
                forgets = [rows[cell]["forget"] for cell in cells]
                return judgement.at_forgetting(forgets, scores, bar)
            return scores.std(axis=0, ddof=1) if self.over == "sd" else scores.mean(axis=0)

        def of_run(run: int) -> np.ndarray:
            taken_off = side(self.second, run) if self.second else 0.0
            return side(self.first, run) - taken_off - self.less

        return sample.estimate(of_run)

    def beyond(self, ends: tuple[float, float]) -> float:
        """Return by how many half-widths an interval is off the limit; below 0 where it is not."""
        low, high = ends
        inside = min(low - self.above, self.below - high)
        return max(inside, self.above - high, low - self.below) / max((high - low) / 2, 1e-9)

    def verdict(self, ends: tuple[float, float]) -> str:
        """Return whether it holds by an interval: section 7."""
        if not self.beyond(ends) > 0:
            return "undecided"
        return "holds" if self.above < ends[0] and ends[1] < self.below else "fails"

    def z_test(self, sample: Sample) -> float:
        """Return p of the paper's test of two UARs on unseen clips; it decides nothing."""
        if self.measure != "unseen" or self.over != "mean":
            return math.nan
        of_sides = [
            np.mean([sample.score("unseen", run, cell)[0]
                     for cell in cells for run in range(len(sample.runs))])
            for cells in (self.first, self.second)
        ]  # fmt: skip
        return statistics.uar_z_test(*map(float, of_sides), sample.n_unseen).p_value


def holm(beyond: Sequence[Callable[[float], float]], error: float) -> list[float]:
    """Return the error at which each interval of a family is taken, by Holm 1979.

    Args:
        beyond: returns how far an interval, at an error, is beyond its limit: `Question.beyond`
        error: of the family

    Examples:
        Two intervals of which one is beyond its limit at errors from .01, the other from .03 on:

        >>> holm([lambda error: error - 0.01, lambda error: error - 0.03], 0.05)
        [0.025, 0.05]

    """
    errors, left = [error] * len(beyond), list(range(len(beyond)))
    while left:
        step = error / len(left)
        off = {k: beyond[k](step) for k in left}
        best = max(left, key=lambda k: off[k])
        for k in [best] if off[best] > 0 else list(left):
            errors[k] = step
            left.remove(k)
    return errors


class Asked(NamedTuple):
    """Makes the questions of section 8.

    Args:
        tuned: UAR on the tuning fold of each cell that was tried
        paper: columns method, n_forget, setting, forget, unseen
        ns: N, from the smallest
        taus: bounds that were tried, from the smallest

    """

    tuned: Mapping[Cell, float]
    paper: pd.DataFrame
    ns: Sequence[int]
    taus: Sequence[float]

    def best(self, n: int, columns: Sequence[tuple[str, str]], taus: Sequence[float] = ()) -> Cell:
        """Return the cell of the highest UAR on the tuning fold; of equals, the first."""
        cells = [Cell(name, n, per, tau) for name, per in columns for tau in taus or self.taus]
        return max(cells, key=lambda cell: self.tuned[cell])

    def questions(self) -> Iterator[Question]:
        """Yield them in the order of section 8, with the paper's number where Table 1 has it."""
        said = self.paper.set_index(["setting", "method", "n_forget"]).sort_index()
        for asked in self._asked():
            if asked.table == "figure" or asked.claim == "Q1":
                yield asked
                continue
            column = said["unseen" if asked.measure == "unseen" else "forget"][asked.table]
            first, second = (
                [column[cell.method, cell.n] for cell in cells]
                for cells in (asked.first, asked.second)
            )
            if asked.method[0] == BETTER:
                first = [max(column[name, asked.first[0].n] for name in ("adv", "adv_ela"))]
            value = np.mean(first) - np.mean(second or 0) - asked.less
            yield replace(asked, paper=f"{value + 1e-9:.3f}")  # halves up

    def _asked(self) -> Iterator[Question]:
        ns, most = self.ns, max(self.ns)
        smaller = [n for n in ns if n < most]
        unseen: Any = partial(Question, measure="unseen", above=0)
        yield from self._forgets("R1", "validation")
        for name in ("ran_lab", "remain"):
            for n in ns:
                yield Question(
                    "R2", (name, ""), str(n), "forget UAR, all classes - .143", "forget_all",
                    (Cell(name, n),), less=CHANCE, above=0,
                )
        yield from self._beats("R3", "validation", smaller)
        yield from self._beats("R3b", "validation", [most])
        best = {column: tuple(self.best(n, [column]) for n in ns) for column in ATTACKS}
        for column in ATTACKS[1:]:
            yield unseen(
                "R4", column, f"mean of {', '.join(map(str, ns))}", "unseen UAR, adv_ela - adv",
                first=best[column], second=best[ATTACKS[0]],
            )
        for column in ATTACKS:
            yield unseen(
                "R5", column, f"{ns[0]} - {ns[-1]}", "unseen UAR, smallest N - largest N",
                first=best[column][:1], second=best[column][-1:],
            )
        for n in ns:
            yield Question(
                "R6", ("remain", ""), str(n), "unseen UAR, remain - original", "unseen",
                (Cell("remain", n),), (Cell("original", n),), above=-MARGIN, below=MARGIN,
                level=0.9,
            )
        over = {
            (column, n): tuple(Cell(column[0], n, column[1], tau) for tau in self.taus)
            for column in ATTACKS for n in ns
        }
        for (column, n), cells in over.items():
            inner = self.best(n, [column], self.taus[1:-1])
            for end, paper in ((cells[0], "> .4"), (cells[-1], "> 0")):
                statistic = f"unseen UAR, best inner tau - tau {end.tau:g}"
                yield unseen(
                    "R7", column, str(n), statistic, first=(inner,), second=(end,),
                    table="figure", paper=paper, part=f"{end.tau:g}",
                )
        for (column, n), cells in over.items():
            if n > ns[0]:
                yield unseen(
                    "R8", column, str(n), f"unseen UAR, sd over tau - that of N = {ns[0]}",
                    first=cells, second=over[column, ns[0]], over="sd", table="figure",
                )
        yield from self._forgets("R9", "test", part="R1")
        yield from self._beats("R9", "test", smaller, part="R3")
        for cell in best[ATTACKS[0]]:
            scores = (
                ("forget_all", "forget UAR, all classes, adv - retrain", True, 0.0),
                ("auc", "AUC of the loss attack, adv - retrain", True, 0.0),
                ("auc", "AUC of the loss attack, adv", False, 0.5),
            )
            for measure, statistic, compared, limit in scores:
                yield Question(
                    "Q1", ATTACKS[0], str(cell.n), statistic, measure, (cell,),
                    (Cell("retrain", cell.n),) if compared else (), below=limit, part=statistic,
                )
        for column in ATTACKS[1:]:
            for n in ns:
                yield unseen(
                    "Q2", column, str(n), "unseen UAR at the retrained's forget UAR, adv_ela - adv",
                    first=over[column, n], second=over[ATTACKS[0], n], over="equal", table="figure",
                )

    def _forgets(self, claim: str, table: str, part: str = "") -> Iterator[Question]:
        """R1: methods with an attack forget."""
        for column in ATTACKS:
            for n in self.ns:
                yield Question(
                    claim, column, str(n), "forget UAR, all classes", "forget_all",
                    (self.best(n, [column]),), below=CHANCE, table=table, part=part,
                )

    def _beats(
        self, claim: str, table: str, ns: Sequence[int], part: str = ""
    ) -> Iterator[Question]:
        """R3: the better one, by the tuning fold, beats random labels."""
        for n in ns:
            better = self.best(n, ATTACKS)
            which = " ".join([better.method, better.fisher_per]).strip()
            yield Question(
                claim, (BETTER, ""), str(n), f"unseen UAR, {which} - ran_lab", "unseen", (better,),
                (Cell("ran_lab", n),), above=0, table=table, part=part,
            )


def judged(
    questions: Sequence[Question], samples: Mapping[str, Sample], missing: Mapping[str, str]
) -> pd.DataFrame:
    """Return what becomes of each claim.

    Args:
        questions: of `Asked`
        samples: runs of each table
        missing: of each table without enough runs, which rows it lacks

    Returns:
        a row a question: its value, interval (at Holm's error within its family) and verdict, and
        ``together``, the verdict on all that the claim says of the method

    """
    estimates = {
        k: asked.estimate(samples[asked.table])
        for k, asked in enumerate(questions) if asked.table in samples
    }
    families: dict[tuple[str, ...], list[int]] = {}
    for k, estimate in estimates.items():
        if not np.isnan(estimate.runs).any():
            families.setdefault(questions[k].family, []).append(k)
    errors = {}
    for family in families.values():
        beyond = [
            lambda error, k=k: questions[k].beyond(estimates[k].deciding(error)) for k in family
        ]
        level = questions[family[0]].level
        errors |= dict(zip(family, holm(beyond, 1 - level), strict=True))
    rows = []
    for k, asked in enumerate(questions):
        row = {
            "claim": asked.claim, "method": asked.method[0], "fisher_per": asked.method[1],
            "n": asked.n, "table": asked.table, "statistic": asked.statistic,
            "holds": asked.limit, "paper": asked.paper, "verdict": "not tested",
            "runs": len(samples[asked.table].runs) if k in estimates else 0,
            "together": "|".join(asked.together),
        }
        if k in errors:
            row |= _answered(asked, estimates[k], samples[asked.table], errors[k])
        elif k in estimates:
            runs = zip(samples[asked.table].runs, estimates[k].runs, strict=True)
            names = ", ".join(run.name for run, value in runs if math.isnan(value))
            row["missing"] = f"no tau with the retrained model's forget UAR: {names}"
        else:
            row["missing"] = missing[asked.table]
        rows.append(row)
    table = pd.DataFrame(rows)
    table["together"] = table.groupby("together")["verdict"].transform(_together)
    others = [
        {"claim": claim, "verdict": "not testable here", "together": "not testable here",
         "missing": reason, "runs": 0}
        for claim, reason in NOT_TESTABLE.items()
    ]  # fmt: skip
    return pd.concat([table, pd.DataFrame(others)], ignore_index=True)


def _answered(asked: Question, estimate: Estimate, sample: Sample, error: float) -> dict[str, Any]:
    ends, low_high = estimate.ends(error), estimate.deciding(error)
    verdict = asked.verdict(low_high)
    return {
        "value": estimate.runs.mean(), "low": low_high[0], "high": low_high[1],
        "level": 1 - error, "decided_by": estimate.wider(error),
        **{f"{name}_low": low for name, (low, _) in ends.items()},
        **{f"{name}_high": high for name, (_, high) in ends.items()},
        "drawn": "runs" if asked.measure == "auc" else "runs, speakers",
        "z_test_p": asked.z_test(sample), "verdict": verdict,
        "detectable": estimate.detectable(error) if verdict == "undecided" else math.nan,
    }


def _together(verdicts: pd.Series) -> str:
    """Return the verdict on what is said of every N."""
    first = [v for v in ("not tested", "fails", "undecided") if (verdicts == v).any()]
    return first[0] if first else "holds"


def levels(sample: Sample, setting: str, cells: Sequence[Cell]) -> pd.DataFrame:
    """Return Table 1: scores of each method and N, means over runs with the wider 95 % interval."""
    rows = []
    for cell in cells:
        row = {"setting": setting, **cell._asdict(), "runs": len(sample.runs)}
        for measure in ("forget_all", "forget", "unseen", "retain", "auc"):
            of_run = partial(sample.score, measure, cell=cell)
            estimate = sample.estimate(of_run)
            low, high = estimate.deciding(0.05)
            row |= {measure: estimate.runs.mean(), f"{measure}_low": low, f"{measure}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)

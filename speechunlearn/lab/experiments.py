"""The experiments of the chapters: which cells each of them consists of, and what they say.

`CHAPTERS` has a function for each: its notebook works on what it asks for, and
`speechunlearn.chapters.grid` plans it.

Every function yields cells; a cell that is in the artefact cache costs nothing, so chapters share
work and an experiment that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from scipy.special import softmax

from speechunlearn import methods
from speechunlearn.audit import closeness, evaluation, predictions, statistics
from speechunlearn.audit.metrics import uar
from speechunlearn.errors import ParameterError
from speechunlearn.lab import forget_sets, sentences, tuning
from speechunlearn.lab.forget_sets import clips
from speechunlearn.lab.profiles import Profile
from speechunlearn.lab.relearning import relearn
from speechunlearn.lab.results import ANOTHER_SEED, TITLES, Results, best_tau
from speechunlearn.lab.study import DEVELOPMENT, Cell, Study
from speechunlearn.methods.pgd import AttackParameters
from speechunlearn.models import training

ADVERSARIAL = ("adv", "adv_ela")
#: variant of cells after several requests, one after another
SEQUENCE = "one after another"
BASELINES = ("original", "retrain", "remain", "remain_superloss", "ran_lab")

#: variant of cells of the leaderboard's request made in parts, one request after another
IN_PARTS = "in 5 requests"
N_PARTS = 5
#: methods whose requests in parts are made
REPEATED = ("ran_lab", "adv_ela", "neggrad", "delete", "altered")

#: variant of cells of `altered` with one of its parts changed: followed by which
PART = "altered copies: "
NOT_SPLICED = "answers to spliced clips not held"
#: its parts: (what is changed, parameters)
PARTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("answers to the copies not held", {"anchor": 0.0}),
    (NOT_SPLICED, {"splices": 0.0}),
    ("targets at the copies", {"weight": 1.0}),
    ("targets half way to the copies", {"weight": 0.5}),
    ("faster copies alone", {"speeds": (1.25,)}),
    ("slower copies alone", {"speeds": (0.8,)}),
    ("copies moved in time, not in speed", {"speeds": (), "shifts": (0.05, 0.3)}),
    ("with dropout", {"mode": "train"}),
)

#: how `claims` decides
RULE = (
    "A difference is *above 0* or *below 0* where its whole 95 % interval and each run by itself "
    "(a training seed and a forget set) are on that side, and *undecided* otherwise. A claim of "
    "the paper *holds* where the difference is above 0 and *fails* where it is below 0. It is *not "
    "tested here* where a method was not run with the paper's M, P, epochs and learning rate."
)

#: choices that the paper leaves open, each changed alone: (what, parameters); one of a kind is the
#: profile's own
GAPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("the profile's choices", {}),
    ("importance: 1 - Fisher", {"importance": "1-fisher"}),
    ("importance: MAS", {"importance": "mas"}),
    ("importance: 1 - MAS", {"importance": "1-mas"}),
    ("importance: none", {"importance": "none"}),
    ("Fisher of single clips", {"fisher_per": "clip"}),
    ("Fisher of a batch", {"fisher_per": "batch"}),
    ("projected once, at the end", {"projection": "end"}),
    ("step size tau / 10", {"step_fraction": 0.1}),
    ("copies made anew each epoch", {"sets": "anew"}),
    ("unlearning in eval mode", {"mode": "eval"}),
)


@runtime_checkable
class Run(Protocol):
    """What a chapter asks for its studies: see `speechunlearn.chapters.runs.Run`."""

    @property
    def profile(self) -> Profile: ...

    def study(self, setting: str = "validation", **values: Any) -> Study: ...

    def study_of(self, task: str, corpus: str) -> Study: ...

    def ranked(self) -> tuple[str, ...]: ...

    def strengths(self) -> dict[str, dict[str, Any]]: ...


#: what a chapter asks for, by what it is for
Asked = dict[str, Iterable[Any]]


def finetuning(run: Run) -> Asked:
    """Ask for the first pair's two references in each setting."""
    seed, draw = run.profile.pairs[0]
    request = clips(max(run.profile.n_values), draw)
    return {setting: references(run.study(setting), request, seed)
            for setting in run.profile.settings}


def paper_baselines(run: Run) -> Asked:
    """Ask for the paper's baselines."""
    return {"baselines": baselines(run.study())}


def adversarial_and_elastic(run: Run, other_copies: int = 0, other_steps: int = 0) -> Asked:
    """Ask for copies of the smallest draw at each tau, and for what is left open, varied.

    Args:
        run: of the chapter
        other_copies: M of one more setting; 0: none
        other_steps: P of that setting; 0: none

    """
    study, taus = run.study(), run.profile.tau_values
    n = min(run.profile.n_values)
    more = sizes(study, n, taus[0], other_copies, other_steps)
    return {
        "copies": copies(study, n),
        "gaps": gaps(study, n, taus[len(taus) // 2]),
        "sizes": more if other_copies and other_steps else (),
    }


def replication(run: Run) -> Asked:
    """Ask for Table 1 in each setting; its taus come from the ``development`` cells."""
    development = list(ablation(run.study()))
    taus = chosen_taus(Results.of(development))
    tables: Asked = {setting: table1(run.study(setting), taus) for setting in run.profile.settings}
    return {"development": development, **tables}


def over_tau(run: Run) -> Asked:
    """Ask for Figure 2."""
    return {"ablation": ablation(run.study())}


def requests(run: Run) -> Asked:
    """Ask for every kind of request on words or speakers; ``images`` beside words."""
    study, profile = run.study(), run.profile
    asked: Asked = {
        "clips": clip_requests(study, profile.compared),
        "class": removals(study, "class", profile.compared),
        "one after another": one_after_another(study, profile.in_sequence),
    }
    if study.task.label != "speaker":
        asked["speaker"] = removals(study, "speaker", profile.compared)
    if study.task.name == "keyword":
        images = run.study_of("image", "digits")
        asked["images"] = clip_requests(images, images.profile.compared)
    return asked


def audited(run: Run) -> Asked:
    """Ask for the first pair's models, and those that they are judged by."""
    study = run.study(pairs=run.profile.pairs[:1])
    return {"ranked": ranked(study, run.ranked(), run.strengths())}


def leaderboard(run: Run) -> Asked:
    """Ask for every model of the leaderboard; strengths come from the trials."""
    asked = run.study(), run.ranked(), run.strengths()
    return {"ranked": ranked(*asked), "parts": parts(*asked), "repeated": repeated(*asked)}


def one_request(run: Run) -> Asked:
    """Ask for the models of one request: the original, and some retrained without its clips."""
    study = run.study(pairs=run.profile.pairs[:1])
    seed, draw = study.pairs[0]
    study.ask("models", without=None, seed=seed)
    for other in range(study.profile.references):
        study.ask("models", without=ranked_request(study, draw), seed=other)
    return {}


#: what each chapter asks for; a chapter that is not here asks for nothing
CHAPTERS: dict[str, Callable[..., Asked]] = {
    "02_finetuning": finetuning,
    "03_baselines": paper_baselines,
    "04_adversarial_and_elastic": adversarial_and_elastic,
    "05_table1": replication,
    "06_ablation": over_tau,
    "07_keyword_spotting": requests,
    "08_speaker_identification": requests,
    "09_audit": audited,
    "10_leaderboard": leaderboard,
    "11_request": one_request,
}


def references(study: Study, request: forget_sets.ForgetSet, seed: int) -> Iterator[Cell]:
    """Yield the original model and the one retrained without a request."""
    for method in ("original", "retrain"):
        yield study.cell(method, request, seed)


def baselines(study: Study) -> Iterator[Cell]:
    """Yield the baselines on the first pair of seed and draw, for every N."""
    seed, draw = study.pairs[0]
    for n in study.profile.n_values:
        for method in BASELINES:
            yield study.cell(method, clips(n, draw), seed)


def ablation(study: Study) -> Iterator[Cell]:
    """Yield both adversarial methods over tau and N on the development draw: Figure 2."""
    seed, _ = study.pairs[0]
    largest = max(study.profile.n_values)
    yield study.cell("original", clips(largest, DEVELOPMENT), seed)
    for tau in study.profile.tau_values:
        # the largest first: the smaller draws take their copies from its set
        for n in sorted(study.profile.n_values, reverse=True):
            for method in ADVERSARIAL:
                yield study.cell(method, clips(n, DEVELOPMENT), seed, tau=tau)


def chosen_taus(results: Results) -> dict[tuple[str, int], float]:
    """Return the tau of each adversarial method and N, chosen on the development draw."""
    cells = results.select(method=list(ADVERSARIAL), draw=DEVELOPMENT).cells
    if cells.empty:
        raise ParameterError("tau cannot be chosen: there are no development cells")
    keys = cells[["method", "n_forget"]].drop_duplicates().itertuples(index=False)
    return {(method, int(n)): best_tau(results, method, int(n)) for method, n in keys}


def table1(study: Study, taus: dict[tuple[str, int], float]) -> Iterator[Cell]:
    """Yield every method on every pair and N, with these taus: Table 1."""
    for seed, draw in study.pairs:
        for n in study.profile.n_values:
            for method in BASELINES:
                yield study.cell(method, clips(n, draw), seed)
            for method in ADVERSARIAL:
                yield study.cell(method, clips(n, draw), seed, tau=taus[method, n])


def gaps(study: Study, n: int, tau: float) -> Iterator[Cell]:
    """Yield Adv. + Ela. under each choice that the paper leaves open, on the first pair."""
    seed, draw = study.pairs[0]
    yield study.cell("original", clips(n, draw), seed).as_variant("before unlearning")
    yield study.cell("retrain", clips(n, draw), seed).as_variant("retrained")
    for what, overrides in GAPS:
        yield study.cell("adv_ela", clips(n, draw), seed, tau=tau, **overrides).as_variant(what)


def copies(study: Study, n: int) -> Iterator[tuple[float, AttackParameters]]:
    """Have adversarial copies of the first pair's draw made, and yield each tau and its attack."""
    seed, draw = study.pairs[0]
    own = study.profile.methods.get("adv", {})
    for tau in study.profile.tau_values:
        attack = methods.parameters("adv", **{**own, "tau": tau}).attack
        study.ask("adversarial", deletion=clips(n, draw), seed=seed, parameters=attack)
        yield tau, attack


def sizes(study: Study, n: int, tau: float, copies: int, steps: int) -> Iterator[Cell]:
    """Yield both adversarial methods with these M and P, on the first pair."""
    seed, draw = study.pairs[0]
    for method in ADVERSARIAL:
        cell = study.cell(method, clips(n, draw), seed, tau=tau, copies=copies, steps=steps)
        yield cell.as_variant(f"{TITLES[method]}, M = {copies}, P = {steps}")


def clip_requests(study: Study, chosen: Sequence[str]) -> Iterator[Cell]:
    """Yield methods on draws of clips of every size, on every pair of seed and draw."""
    for seed, draw in study.pairs:
        for n in study.sizes:
            for method in ("original", "retrain", *chosen):
                yield study.cell(method, clips(n, draw), seed)
    # what is closer to a retrained model than these are to each other is close enough
    seed, draw = study.pairs[0]
    for other in range(study.profile.retrained_seeds):
        if other != seed:
            cell = study.cell("retrain", clips(max(study.sizes), draw), other)
            yield cell.as_variant(ANOTHER_SEED)


def removals(study: Study, kind: str, chosen: Sequence[str]) -> Iterator[Cell]:
    """Yield methods on the removal of whole classes, or of all clips of speakers, one by one.

    Args:
        study: its profile says how many
        kind: ``class`` or ``speaker``
        chosen: methods

    """
    make = forget_sets.classes if kind == "class" else forget_sets.speakers
    for i, name in enumerate(study.removable(kind)):
        seed, _ = study.pairs[i % len(study.pairs)]
        for method in ("original", "retrain", *chosen):
            yield study.cell(method, make(name), seed)


def requested(study: Study) -> pd.DataFrame:
    """Return what will be asked of the models, before any is trained.

    Raises:
        ParameterError: a request that cannot be made of this corpus

    """
    rows = [
        {"request": "some clips", "of": f"{n} of {len(study.train_manifest)}"}
        for n in study.sizes
    ]
    rows += [{"request": "a class", "of": name} for name in study.removable("class")]
    if study.task.label != "speaker":
        rows += [{"request": "a speaker", "of": name} for name in study.removable("speaker")]
    in_a_row = study.removable("speaker", study.profile.in_a_row)
    rows.append({"request": "one speaker after another", "of": ", ".join(in_a_row)})
    return pd.DataFrame(rows).set_index("request")


def ranked_request(study: Study, draw: int | str) -> forget_sets.ForgetSet:
    """Return a request of the leaderboard's size.

    Raises:
        ParameterError: a size that is no number of clips or share of them, or that leaves nothing
            beside it and a development draw as large

    """
    size, available = study.profile.ranked_size, len(study.train_manifest)
    n = int(size) if size >= 1 else round(size * available)
    if not 0 < n < available / 2:
        raise ParameterError(f"size: {size:g} is {n} clips, of {available} training clips")
    return clips(n, draw)


def trials(study: Study, chosen: Sequence[str]) -> Iterator[Cell]:
    """Yield the trials that methods are tuned by, and the model retrained without their draw.

    Args:
        study: its profile has ``spare`` unseen clips, so that none is reported
        chosen: methods

    Raises:
        ParameterError: a study whose unseen clips are reported, or a number of trials out of range

    """
    if not study.profile.spare:
        raise ParameterError("spare: trials are not to see the clips that are reported")
    seed, request = study.pairs[0][0], ranked_request(study, DEVELOPMENT)
    profile = study.profile
    tried = {
        method: tuning.candidates(method, profile.methods.get(method, {}), profile.trials)
        for method in chosen
    }  # before anything is trained
    yield study.cell("retrain", request, seed).as_variant(tuning.TRIAL)
    for method, candidates in tried.items():
        for overrides in candidates:
            cell = study.cell(method, request, seed, **overrides)
            yield cell.as_variant(f"{tuning.TRIAL} {json.dumps(overrides)}")


def ranked(
    study: Study, chosen: Sequence[str], strengths: Mapping[str, Mapping[str, Any]]
) -> Iterator[Cell]:
    """Yield the cells of the leaderboard: methods on every pair, and what they are judged by.

    Args:
        study: its profile says how many models of either kind they are judged by
        chosen: methods
        strengths: hyperparameters of each in place of the profile's: of `tuning.chosen`

    Raises:
        ParameterError: fewer than two models to judge by

    """
    if study.profile.references < 2:
        raise ParameterError(
            f"references: {study.profile.references} retrained model has no spread; two have"
        )
    for seed, draw in study.pairs:
        request = ranked_request(study, draw)
        for method in ("original", "retrain"):
            yield study.cell(method, request, seed)
            for other in range(study.profile.references):
                if other != seed:
                    yield study.cell(method, request, other).as_variant(ANOTHER_SEED)
        for method in chosen:
            yield study.cell(method, request, seed, **strengths.get(method, {}))


def parts(
    study: Study, chosen: Sequence[str], strengths: Mapping[str, Mapping[str, Any]]
) -> Iterator[Cell]:
    """Yield `altered` with one of its parts changed, on every pair; nothing where it is not chosen.

    Args:
        study: its profile
        chosen: methods of the leaderboard
        strengths: as of `ranked`

    """
    speeds = study.profile.methods.get("altered", {}).get("speeds", ())
    some = {  # where the profile has speeds of its own, those of one side
        "faster copies alone": tuple(speed for speed in speeds if speed > 1),
        "slower copies alone": tuple(speed for speed in speeds if speed < 1),
    }
    for seed, draw in study.pairs if "altered" in chosen else ():
        request, own = ranked_request(study, draw), strengths.get("altered", {})
        for what, overrides in PARTS:
            if some.get(what):
                overrides = {"speeds": some[what]}
            cell = study.cell("altered", request, seed, **{**own, **overrides})
            yield cell.as_variant(f"{PART}{what}")


def repeated(
    study: Study, chosen: Sequence[str], strengths: Mapping[str, Mapping[str, Any]]
) -> Iterator[Cell]:
    """Yield methods on the leaderboard's requests made in five, each on what the last one left.

    `altered` is there a second time, without the spliced clips.

    Args:
        study: its profile
        chosen: methods of the leaderboard; those of `REPEATED` are taken
        strengths: as of `ranked`

    """
    for seed, draw in study.pairs:
        steps = forget_sets.in_parts(ranked_request(study, draw), N_PARTS)
        for method in (name for name in REPEATED if name in chosen):
            own = strengths.get(method, {})
            yield study.after(method, steps, seed, **own).as_variant(IN_PARTS)
            if method == "altered":
                cell = study.after(method, steps, seed, **{**own, "splices": 0.0})
                yield cell.as_variant(f"{IN_PARTS}, {NOT_SPLICED}")


def closeness_table(
    study: Study, results: Results, method: str, seed: int, draw: int | str
) -> pd.DataFrame:
    """Return how close models are to the retrained model of their seed, by each measure.

    Args:
        study: its untrained model is what zero retrain forgetting compares with
        results: cells of `ranked`
        method: the judged one
        seed: of the models
        draw: of the request

    Returns:
        a row a measure (``ToW``, ``ToW-MIA``, ``GUM`` as published, ``GUM, bounded``, ``ZRF``,
        ``activation distance``, KS and EMD of the ``losses``), a column a model: the original,
        the judged one, and a model retrained from another seed

    """
    cells = results.cells[results.cells["draw"] == str(draw)]

    def cell(name: str, variant: str = "") -> Any:
        of_name = cells[(cells["method"] == name) & (cells["variant"] == variant)]
        return of_name[(of_name["seed"] == seed) == (variant == "")].iloc[0]

    shown = {
        TITLES["original"]: cell("original"), TITLES[method]: cell(method),
        "Retrained, another seed": cell("retrain", ANOTHER_SEED),
    }
    reference = cell("retrain")
    forget = study.forget(ranked_request(study, draw))
    fresh = softmax(training.predict(study.fresh(seed), forget).double().numpy(), axis=1)
    tables = {name: results.of_cell(row["cell"]) for name, row in shown.items()}
    retrained = results.of_cell(reference["cell"])
    theirs = evaluation.scores(retrained, results.n_labels)
    q = softmax(predictions.forget_logits(retrained), axis=1)
    before = evaluation.scores(tables[TITLES["original"]], results.n_labels)["forget", "mia_auc"]
    columns = {}
    for name, table in tables.items():
        own = evaluation.scores(table, results.n_labels)
        p = softmax(predictions.forget_logits(table), axis=1)
        given: dict[str, float] = {
            "mia_original": before, "mia_unlearned": own["forget", "mia_auc"],
            "mia_retrained": theirs["forget", "mia_auc"],
            "score_unlearned": own["unseen", "uar"], "score_retrained": theirs["unseen", "uar"],
            "seconds_unlearned": 0.0 if name == TITLES["original"] else shown[name]["seconds"],
            "seconds_retrained": reference["seconds"],
        }
        n_forget, n_unseen = ((table["split"] == part).sum() for part in ("forget", "unseen"))
        resolution = math.sqrt(
            evaluation.auc_variance(theirs["forget", "mia_auc"], int(n_forget), int(n_unseen))
        )
        losses = [t.loc[t["split"] == "forget", "loss"] for t in (table, retrained)]
        columns[name] = {
            "ToW": closeness.tow(_uars(own), _uars(theirs)),
            "ToW-MIA": closeness.tow_mia(_uars(own, "mia"), _uars(theirs, "mia")),
            "GUM, as published": closeness.gum(**given).value,
            "GUM, bounded": closeness.gum_bounded(**given, resolution=resolution).value,
            "ZRF": closeness.zrf(p, fresh),
            "activation distance": closeness.activation_distance(p, q),
            "losses, KS": closeness.loss_ks(*losses),
            "losses, EMD": closeness.loss_emd(*losses),
        }
    columns[TITLES["retrain"]] = {"ZRF": closeness.zrf(q, fresh)}
    return pd.DataFrame(columns).map(lambda value: "–" if value != value else f"{value + 1e-9:.3f}")


def _uars(values: evaluation.Values, attack: str = "") -> dict[str, float]:
    """Return the three factors of ToW, or of ToW-MIA."""
    first = {"mia": values["forget", "mia_auc"]} if attack else {"forget": values["forget", "uar"]}
    return first | {split: values[split, "uar"] for split in ("retain", "unseen")}


def relearning_table(
    study: Study, method: str, seed: int, draw: int | str, **overrides: Any
) -> pd.DataFrame:
    """Return how fast models learn the forget set again, beside the retrained model of their seed.

    All learn it for the same epochs with the same settings, those of random labels but with the
    true ones.

    Returns:
        a row a model: share correct before and after, steps until it has come back to within a
        twentieth of the original, and the anamnesis index with its bounds

    """
    request = ranked_request(study, draw)
    forget = study.forget(request)
    own = study.profile.methods.get("ran_lab", {})
    descent = methods.parameters("ran_lab", **own)
    models = {
        TITLES["original"]: study.original(seed),
        TITLES[method]: study.unlearned(method, request, seed, **overrides),
        TITLES["retrain"]: study.retrained(seed, request),
    }
    curves = {
        name: relearn(model, forget, descent, seed=seed, per="step")
        for name, model in models.items()
    }
    target = curves[TITLES["original"]][0]
    rows = []
    for name, curve in curves.items():
        index = closeness.anamnesis(curve, curves[TITLES["retrain"]], target)
        rows.append(
            {
                "model": name, "before": curve[0], "after": curve[-1],
                "steps to come back": index.unlearned,
                "anamnesis index": index.value, "at least": index.low, "at most": index.high,
            }
        )
    return pd.DataFrame(rows).set_index("model")


def one_after_another(study: Study, chosen: Sequence[str]) -> Iterator[Cell]:
    """Yield methods on a sequence of speakers' deletions, and retraining without all of them."""
    seed, _ = study.pairs[0]
    names = study.removable("speaker", study.profile.in_a_row)
    for method in ("original", "retrain"):
        cell = study.cell(method, forget_sets.speakers(*names), seed)
        yield cell.as_variant(SEQUENCE)
    for method in chosen:
        for cell in study.sequence(method, names, seed):
            yield cell.as_variant(SEQUENCE)


def variants(results: Results) -> pd.DataFrame:
    """Return UAR by variant and set, and the attack's AUC with its distance to the retrained's."""
    named = results.cells[results.cells["variant"] != ""]
    scores = results.rows().query("variant != ''")
    scores = scores.set_index(["variant", "n_forget", "split", "metric"])["value"].sort_index()
    rows = []
    for what, n in named[["variant", "n_forget"]].itertuples(index=False):
        value = scores[what, n]
        rows.append(
            {"variant": what, "N": n}
            | {f"{split} UAR": value[split, "uar"] for split in ("forget", "retain", "unseen")}
            | {
                "attack AUC": value["forget", "mia_auc"],
                "AUC to retrained": value.get(("forget", "mia_auc_distance"), np.nan),
            }
        )
    return pd.DataFrame(rows).set_index(["N", "variant"])


def claims(
    results: Results,
    setting: str,
    *,
    chance: float,
    n_resamples: int = 2000,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return what becomes of the paper's claims on these cells, by `RULE`.

    Args:
        results: cells of `table1`
        setting: ``validation`` or ``test``
        chance: UAR of a guess, one over the number of classes
        n_resamples: of the paired, speaker-clustered bootstrap
        generator: its randomness

    Returns:
        columns claim, n_forget, value, low, high, difference, verdict; value is a difference of
        UARs that is above 0 where the claim is right, difference says whether it is

    Raises:
        ParameterError: cells of the paper's methods that do not say what they were run with

    """
    cells = results.select(setting=setting).reported()
    sizes = sorted(int(n) for n in cells.cells["n_forget"].unique())
    small, large = sizes[0], sizes[-1]

    def tables(method: str, n: int, split: str) -> list[pd.DataFrame]:
        own = cells.cells[(cells.cells["method"] == method) & (cells.cells["n_forget"] == n)]
        own = own.sort_values(["seed", "draw"])
        return [cells.of_cell(cell, split) for cell in own["cell"]]

    def uars(method: str, n: int, split: str) -> np.ndarray:
        return np.array(
            [uar(t["label"], t["prediction"], results.n_labels) for t in tables(method, n, split)]
        )

    rows: list[dict[str, Any]] = []

    def add(
        claim: str, n: int | str, interval: Sequence[float], pairs: np.ndarray, *compared: str
    ) -> None:
        value, low, high = interval[:3]
        difference, verdict = "undecided", "undecided"
        if low > 0 and (pairs > 0).all():
            difference, verdict = "above 0", "holds"
        elif high < 0 and (pairs < 0).all():
            difference, verdict = "below 0", "fails"
        if sentences.unlike_the_paper(cells.cells, compared):
            verdict = "not tested here"
        rows.append(
            {"claim": claim, "n_forget": n, "value": value, "low": low, "high": high,
             "difference": difference, "verdict": verdict}
        )

    def compare(
        claim: str, n: int | str, a: tuple[str, int], b: tuple[str, int], margin: float = 0.0
    ) -> None:
        difference = statistics.paired_bootstrap(
            tables(*a, "unseen"), tables(*b, "unseen"), clusters="unit",
            n_resamples=n_resamples, generator=generator,
        )
        shifted = [part + margin for part in difference[:3]]
        add(claim, n, shifted, uars(*a, "unseen") - uars(*b, "unseen") + margin, a[0], b[0])

    for method in ADVERSARIAL:
        for n in sizes:
            forgotten = statistics.pooled_bootstrap(
                tables(method, n, "forget"), clusters="unit", n_resamples=n_resamples,
                generator=generator,
            )
            below = [chance - forgotten.value, chance - forgotten.high, chance - forgotten.low]
            claim = f"forgetting: {TITLES[method]} is below chance on the forget set"
            add(claim, n, below, chance - uars(method, n, "forget"), method)
    for method in ADVERSARIAL:
        for n in sizes:
            claim = f"retention: {TITLES[method]} loses less than 0.10 UAR on unseen speakers"
            compare(claim, n, (method, n), ("original", n), 0.10)
    for claim, better, worse in (
        ("Adv. keeps more than Ran. Lab. on unseen speakers", "adv", "ran_lab"),
        ("Adv. + Ela. keeps more than Ran. Lab. on unseen speakers", "adv_ela", "ran_lab"),
        ("elastic weights help Adv. on unseen speakers", "adv_ela", "adv"),
    ):
        for n in sizes:
            compare(claim, n, (better, n), (worse, n))
    if small < large:
        for method in ("ran_lab", *ADVERSARIAL):
            claim = f"unseen UAR of {TITLES[method]} falls with N"
            compare(claim, f"{small} to {large}", (method, small), (method, large))
    return pd.DataFrame(rows)


def shape_over_tau(results: Results) -> pd.DataFrame:
    """Return, for each method and N, UAR on unseen speakers at the ends of tau and at its best.

    The paper sees less than 0.4 at the smallest tau, and less again at the largest than before.
    """
    rows = results.select(method=list(ADVERSARIAL), draw=DEVELOPMENT).rows()
    rows = rows[(rows["split"] == "unseen") & (rows["metric"] == "uar")]
    table = []
    for (method, n), part in rows.groupby(["method", "n_forget"]):
        part = part.sort_values("tau")
        best = part.loc[part["value"].idxmax()]
        table.append(
            {
                "method": TITLES[str(method)], "N": n,
                "smallest tau": part["value"].iloc[0], "best": best["value"],
                "best tau": best["tau"], "largest tau": part["value"].iloc[-1],
                "rises, then falls": bool(
                    part["value"].iloc[0] < best["value"] > part["value"].iloc[-1]
                ),
            }
        )
    return pd.DataFrame(table)


"""What a method will cost: counted exactly, and timed to a quarter."""

import itertools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from speechunlearn import methods, provenance
from speechunlearn.errors import ParameterError
from speechunlearn.methods import METHODS, amun, planner
from speechunlearn.methods.base import UnlearningData
from speechunlearn.models import fast_mode
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.loop import Cost
from speechunlearn.models.training import Recipe


def asked(n: int, retained: int = 11) -> UnlearningData:
    clips = tiny.clips(n + retained)
    return UnlearningData(
        clips.at(range(n)), 3, retain=clips.at(range(n, n + retained)),
        fresh=lambda seed: tiny.classifier(seed=seed), recipe=Recipe(2, 1e-3, 4, "one_cycle"),
        validation=tiny.clips(9, seed=1),
    )


@pytest.fixture
def threads():
    """Sets torch's threads, which are as many workers, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def planned(
    method: str, request: UnlearningData, parameters: object, budget: float = 1e-3,
    **options: object
) -> planner.Estimate:
    model = options.pop("model", None) or tiny.classifier()
    return planner.estimate(method, model, request, parameters, budget=budget, **options)


def counted(method: str, request: UnlearningData, parameters: object, **options: object) -> Cost:
    # enough to search all clips, where a method searches
    budget = 1e9 if hasattr(parameters, "doublings") else 1e-3
    total = planned(method, request, parameters, budget, **options).total
    return Cost(total.forward_backward, total.forward)


def recorded(
    method: str, request: UnlearningData, parameters: object, seed: int = 0, fast: bool = False
) -> Cost:
    return methods.get(method).unlearn(
        tiny.classifier(), request, parameters, seed=seed, fast=fast
    ).cost


def some(method: str, **values: object) -> object:
    own = methods.parameters(method)
    # where a method ends is found out by running it
    values = {"until": 0.0, **values}
    known = {name: value for name, value in values.items() if hasattr(own, name)}
    return replace(own, **known)


# ---- passes


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("n", "epochs", "copies", "steps", "batch_size", "seed"),
    [(3, 1, 1, 1, 16, 0), (7, 2, 2, 3, 4, 1), (5, 3, 3, 5, 2, 5)],
)
def test_the_counted_passes_are_those_that_the_method_records(
    method, n, epochs, copies, steps, batch_size, seed
):
    request = asked(n)
    own = some(
        method, epochs=epochs, copies=copies, steps=steps, draws=steps, noise_steps=steps,
        batch_size=batch_size, shards=2,
    )
    assert counted(method, request, own, seed=seed) == recorded(method, request, own, seed)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("adv", {"sets": "anew"}), ("adv_ela", {"importance": "none"}),
        ("adv_ela", {"fisher_per": "batch"}), ("perturbed", {"anchor": 0.0}),
        ("perturbed", {"splices": 0.0}),
        ("perturbed", {"speeds": (0.9,), "shifts": (0.3, 0.5)}), ("scrub", {"max_epochs": 9}),
        ("scrub", {"max_epochs": 0}), ("scrub", {"rewind": True}),
        # all clips leave their class at once, some later, none ever
        ("amun", {"bound": 100.0}), ("amun", {"bound": 0.05}), ("amun_r", {"bound": 0.05}),
        ("amun", {"bound": 1e-9, "doublings": 3}), ("amun", {"doublings": 0}),
        ("amun", {"keep_forget": True}), ("amun_r", {"keep_forget": True}),
        ("ssd", {"fisher_per": "batch", "mode": "train"}),
        ("fisher_forgetting", {"labels": "true"}),
        ("unsir", {"start": "clips", "noise_batch_size": 2}), ("cf_k", {"k": 2}),
        ("bad_teacher", {"retain_share": 1.0}), ("bad_teacher", {"retain_share": 0.01}),
        ("influence", {"batch_size": 16}), ("salun", {"curriculum": "superloss"}),
        ("l2ul", {"lambda_imp": 0.0}), ("l2ul", {"attack_batch_size": 3}),
        ("boundary_shrink", {"steps": 1}), ("jit", {"draws": 1, "mode": "train"}),
        ("amun", {"bound": 0.05, "attack_batch_size": 2}), ("remain", {"curriculum": "superloss"}),
    ],
)
def test_the_choices_of_a_method_are_counted(method, values):
    request = asked(5)
    own = some(method, **{"epochs": 2, "copies": 2, "steps": 2, "batch_size": 2} | values)
    assert counted(method, request, own) == recorded(method, request, own)


@pytest.mark.parametrize("method", METHODS)
def test_a_quick_run_makes_the_same_passes(method):
    request = asked(7)
    own = some(
        method, epochs=2, copies=3, steps=2, draws=3, noise_steps=2, batch_size=4,
        attack_batch_size=4,
    )
    found = counted(method, request, own, seed=1, fast=True)
    assert found == recorded(method, request, own, seed=1, fast=True)
    assert found == counted(method, request, own, seed=1)


def test_the_counts_have_closed_forms():
    n, m, p, r, e = 6, 3, 4, 11, 2
    request = asked(n, r)

    def found(method: str) -> tuple[int, int]:
        # every batch beside holds the whole forget set
        own = some(
            method, epochs=e, copies=m, steps=p, draws=m, batch_size=n, max_epochs=1,
            noise_steps=p, retain_share=0.5,
        )
        cost = counted(method, request, own)
        return cost.forward_backward, cost.forward

    beside = e * n
    assert found("ran_lab") == found("neggrad") == (e * n, 0)
    assert found("delete") == (e * n, n)
    # copies at two speeds of the eight that were tried, and as many concatenated clips as a batch
    # holds
    assert found("perturbed") == (e * (3 * n + n), 13 * n + e * n)  # 12 copies, and the clips
    assert found("adv") == (m * n * p + e * m * n + m * beside, m * n)
    assert found("adv_ela") == (n + m * n * p + e * m * n + m * beside, m * n)
    assert found("finetune") == (e * r, 0)
    assert found("neggrad_plus") == (e * r + 2 * beside, 0)  # two batches of retained clips
    assert found("scrub") == (e * r + n, n + r)
    assert found("boundary_shrink") == (n * p + e * n, n)
    assert found("boundary_expand") == (e * n, 0)
    assert found("jit") == (e * n, e * n * m)
    assert found("l2ul") == found("adv_ela")
    drawn = 6  # half of the retained clips
    assert found("salun") == (n + e * r + 2 * beside, 0)
    assert found("bad_teacher") == (e * (n + drawn), n + drawn)
    assert found("cf_k") == found("l1_sparse") == (e * r, 0)
    assert found("fisher_forgetting") == (r, r)
    assert found("influence") == found("ssd") == (n + r, 0)
    assert found("unsir") == (n * p + 2 * e * drawn + e * n, 0)
    assert found("remain") == found("remain_superloss") == found("neggrad_plus")


def test_a_clip_that_is_searched_stands_for_the_rest(monkeypatch):
    """Of 40 clips, those of two are known: one is attacked once, the other three times."""
    request, own = asked(40), some("amun", epochs=2, steps=7, doublings=3, batch_size=40)
    monkeypatch.setattr(planner, "_SEARCHED", (2, 2))
    rounds = iter([[True, False], [False], [True]])

    def ask(model: Classifier, clips: object, cost: Cost) -> torch.Tensor:
        cost.forward += len(clips)
        logits = torch.zeros(len(clips), 3)
        for row, left, label in zip(logits, next(rounds), clips.labels, strict=True):
            row[int(label) - 1 if left else int(label)] = 1.0
        return logits

    monkeypatch.setattr(amun, "predict", ask)
    said = planned("amun", request, own)
    # four attacks of two clips are eighty of forty
    assert said.searched == 2
    assert (said.total.forward_backward, said.total.forward) == (80 * 7 + 2 * 40, 80)


@pytest.mark.parametrize(("seconds", "found"), [(10.0, 2), (0.3, 2), (0.125, 6), (1e-6, 32)])
def test_a_search_has_as_many_clips_as_its_budget_allows(seconds, found, monkeypatch):
    """Of two seconds, one is the search's: a clip takes so many."""
    now, sizes = [0.0], []

    def nearest(model: Classifier, clips: object, parameters: object, cost: Cost) -> object:
        batches = [[i] for i in range(len(clips))]
        sizes.append(0)
        for _ in cost.search("nearest examples", batches, clips.lengths):
            sizes[-1] += 1
            now[0] += seconds
        return clips, [None] * len(clips)

    monkeypatch.setattr(amun, "nearest", nearest)
    said = planned(
        "amun", asked(40), some("amun", epochs=1), 2.0, clock=lambda: now[0] + 1e-12
    )
    assert said.searched == found and sizes == [2 + found if found > 2 else 2]
    assert said.phases[0].seconds == pytest.approx(40 * seconds, rel=0.2)


# ---- seconds


class Ticks:
    """A clock that runs by what models do: so much a call, and so much a sample."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, forward = 0.0, Classifier.forward

        def counted_(model: Classifier, waveform_z: torch.Tensor, lengths: torch.Tensor) -> object:
            share = 1.0 if torch.is_grad_enabled() else 0.3
            self.now += share * (0.01 + waveform_z.numel() / 16000)
            return forward(model, waveform_z, lengths)

        monkeypatch.setattr(Classifier, "forward", counted_)

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("budget", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("method", METHODS)
def test_seconds_are_those_of_a_clock_that_the_passes_move(method, budget, monkeypatch):
    """By a clock for which the fit is true, it is, too: however little was run."""
    clock, request = Ticks(monkeypatch), asked(12, 30)
    own = some(
        method, epochs=4, copies=3, steps=7, batch_size=4, attack_batch_size=5, draws=3,
        noise_steps=9, noise_batch_size=5, shards=2,
    )
    # which clips a search is run on decides what it finds
    budget = 1e9 if hasattr(own, "doublings") else budget
    said = planned(method, request, own, budget, clock=clock)
    spent, clock.now = clock.now, 0.0
    methods.get(method).unlearn(tiny.classifier(), request, own, seed=0)
    # each step of `perturbed` has splices of its own length
    assert said.total.seconds == pytest.approx(
        clock.now, rel=0.05 if method == "perturbed" else 0.02
    )
    assert sum(part.seconds for part in said.phases[:-1]) == pytest.approx(said.total.seconds)
    assert said.total.low <= said.total.seconds <= said.total.high
    if budget == 0.01 and method not in ("boundary_expand", "ran_lab"):
        assert spent < clock.now


def test_what_takes_longer_for_a_while_is_in_the_mean():
    rate = planner._Rate(timed=[(1.0, 1.0), (2.0, 2.0), (1.0, 3.0), (2.0, 6.0)])
    assert rate.seconds([1.0, 2.0]).tolist() == pytest.approx([2.0, 4.0], rel=0.01)
    low, high = rate.quartiles()
    assert 0.5 <= low < 1 < high <= 1.5
    alike = planner._Rate(timed=[(2.0, 1.0), (2.0, 3.0)])
    assert alike.seconds([2.0, 4.0]).tolist() == pytest.approx([2.0, 4.0])


def test_items_are_spread_over_their_sizes():
    sizes = [30.0, 10.0, 50.0, 20.0, 40.0, 70.0, 60.0, 80.0]
    places = planner._evenly(sizes)
    assert sorted(places) == list(range(8))
    assert [sizes[i] for i in places[:4]] == [80, 50, 30, 70]
    assert planner._evenly([5.0]) == [0] and planner._evenly([1.0, 1.0]) == [1, 0]


def test_workers_end_with_the_last():
    def until(*seconds: float, workers: int = 2) -> float:
        return planner._until([float(own) for own in seconds], workers)

    assert until(4, 4, 4, 4) == 8
    assert until(4, 4, 4) == 8  # two rounds for three
    assert until(5, 4, 3, 3) == 8
    assert until(3, 2, 1, workers=1) == 6
    assert until(4, workers=3) == 4


def test_as_many_batches_are_timed_at_once_as_there_are_workers(threads):
    """The first pass with a gradient waits until a second one runs."""
    threads(2)
    barrier, passes = threading.Barrier(2, timeout=20), itertools.count()

    def look(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if given[0].requires_grad and next(passes) < 2:
            barrier.wait()

    model = tiny.classifier()
    model.register_forward_pre_hook(look)
    own = some("adv", epochs=1, copies=3, steps=3, attack_batch_size=3)
    said = planned("adv", asked(6), own, fast=True, model=model)
    assert said.phases[0].name == "adversarial copies"


@pytest.mark.parametrize("name", ["n", "copies", "steps"])
def test_what_doubles_doubles_its_part(name, monkeypatch):
    clock = Ticks(monkeypatch)
    before = {"n": 6, "copies": 4, "steps": 12}

    def predicted(**values: int) -> planner.PhaseCost:
        sizes = before | values
        clips = tiny.clips(2).at([0] * sizes.pop("n"))
        own = some("adv", epochs=1, batch_size=4, attack_batch_size=4, **sizes)
        parts = planned("adv", UnlearningData(clips, 3), own, clock=clock).phases
        return next(part for part in parts if part.name == "adversarial copies")

    one, two = predicted(), predicted(**{name: 2 * before[name]})
    assert two.forward_backward == 2 * one.forward_backward
    # the check is made once, however many the steps
    assert two.seconds == pytest.approx(2 * one.seconds, rel=0.03 if name == "steps" else 1e-6)


# ---- what is run


@pytest.mark.parametrize("fast", [False, True])
def test_the_model_is_left_as_it_was(fast):
    model, request = tiny.wav2vec2(), asked(5)
    before, attention = tiny.weights(model), model.network.config._attn_implementation
    own = some("adv_ela", epochs=1, copies=2, steps=2)
    planned("adv_ela", request, own, fast=fast, kept=True, model=model)
    assert tiny.equal(before, tiny.weights(model)) and not model.training
    assert all(weight.grad is None for weight in model.parameters())
    assert not any("forward" in vars(module) for module in model.modules())
    assert model.network.config._attn_implementation == attention
    assert not fast_mode.is_on()


@pytest.mark.parametrize("fast", [False, True])
def test_what_is_timed_is_computed_as_the_run_is(fast, threads):
    threads(1)
    inside, model = set(), tiny.classifier()
    model.register_forward_pre_hook(lambda module, given: inside.add(fast_mode.is_on()))
    own = some("adv_ela", epochs=1, copies=2, steps=2)
    planned("adv_ela", asked(5), own, fast=fast, model=model)
    assert inside == {fast}


@pytest.mark.parametrize("kept", [False, True])
def test_the_state_is_kept_as_the_run_keeps_it(kept, monkeypatch):
    saved = []
    monkeypatch.setattr(torch, "save", lambda state, file: saved.append(state))
    said = planned("ran_lab", asked(4), some("ran_lab", epochs=9), kept=kept)
    assert bool(saved) is kept and len(saved) < 9
    assert said.searched is None


def test_a_little_is_run_of_much():
    seen, model = [], tiny.classifier()
    model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    own = some("adv_ela", epochs=15, copies=10, steps=50)
    said = planned("adv_ela", asked(40), own, model=model)
    assert said.total.forward_backward > 40 * 10 * 50 > 50 * sum(seen)


def test_copies_are_not_in_the_memory():
    """They lie on disk, whether or not they were made."""
    clips = tiny.clips(1)
    long = replace(clips, waveforms_z=[clips.waveforms_z[0].repeat(200)]).at([0] * 16)
    held = len(long) * long.lengths[0] * 4 / 2**20

    def grown(copies: int) -> float:
        provenance.trim()
        with provenance.measured() as usage:
            pass
        own = some("adv", epochs=1, copies=copies, steps=2, attack_batch_size=1, batch_size=1)
        return planned("adv", UnlearningData(long, 3), own).peak_memory_mb - usage.start_memory_mb

    grown(1)
    assert grown(33) - grown(1) < 32 * held / 4


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: planned("ran_lab", asked(3), some("ran_lab"), 0.0), "budget: 0.0 is not positive"),
        (
            lambda: planned("finetune", UnlearningData(tiny.clips(3), 3), some("finetune")),
            "retain set"
        ),
        (lambda: planned("cf_k", asked(3), some("cf_k", k=9)), "k: 9, but the classifier has"),
        (
            lambda: planned("scrub_r", replace(asked(3), validation=None), some("scrub_r")),
            "validation set",
        ),
    ],
)
def test_what_cannot_be_run_cannot_be_planned(act, message):
    with pytest.raises(ParameterError, match=message):
        act()


#: two sizes of the network
SIZES = {"small": (32, 64), "large": (96, 256)}


#: of these the prediction is held in every test run, of all others by ``make bench-cost``
OFTEN = {("perturbed", False), ("adv_ela", True), ("amun", False), ("retrain", False)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "size", "fast"),
    [
        pytest.param(
            method, size, fast,
            marks=[] if (method, fast) in OFTEN and size == min(SIZES, key=SIZES.get)
            else pytest.mark.bench,
        )
        for method in METHODS for size in SIZES for fast in (False, True)
    ],
)
def test_a_run_takes_what_was_predicted(method, size, fast, threads):
    """To a quarter, by the median of rounds in which a prediction and its run follow each other.

    By the processor's clock, which does not count what other processes take; they still empty its
    caches, so there are more rounds where three disagree.
    """
    threads(1)  # that clock adds up what threads take
    hidden, inner = SIZES[size]

    def make(seed: int = 0) -> Classifier:
        return tiny.wav2vec2(hidden_size=hidden, intermediate_size=inner, seed=seed)

    source, model = tiny.clips(64), make()
    source = replace(source, waveforms_z=[wave.repeat(8) for wave in source.waveforms_z])
    request = UnlearningData(
        source.at(range(16)), 3, retain=source.at(range(16, 48)), fresh=make,
        recipe=Recipe(epochs=6, fast=fast), validation=source.at(range(48, 64)),
    )
    own = some(method, epochs=6, copies=3, steps=8, draws=5, shards=3)
    # enough to search all clips
    budget = 20.0 if hasattr(own, "doublings") else 1.0

    def run() -> float:
        begun = time.process_time()
        with provenance.measured():
            methods.get(method).unlearn(model, request, own, seed=0, fast=fast)
        return time.process_time() - begun

    def predicted() -> float:
        return planned(
            method, request, own, budget, fast=fast, clock=time.process_time, model=model
        ).total.seconds

    run()
    ratios: list[float] = []
    for _ in range(3):
        ratios += [predicted() / run() for _ in range(3)]
        if np.median(ratios) == pytest.approx(1, abs=0.25):
            break
    assert np.median(ratios) == pytest.approx(1, abs=0.25), ratios


def test_of_long_items_one_is_enough():
    """A batch that takes half a minute is done once, warm or not."""
    ticks, done = [0.0], []
    work = planner.Cut(0, None, 1.0, lambda: ticks[0])
    for item in work.phase("long", range(10), samples=lambda item: 10.0):
        done.append(item)
        ticks[0] += 30.0
    assert len(done) == 1
    assert work.estimated(work.now())[-1].seconds == pytest.approx(300.0)

"""What a method will cost: counted exactly, and timed to a quarter."""

import time
from dataclasses import replace

import numpy as np
import pytest
import tiny

from speechunlearn import machine, methods, planner, training
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import Request
from speechunlearn.planner import Case
from speechunlearn.training import Cost, Recipe

METHODS = ("ran_lab", "adv", "adv_ela", "finetune", "neggrad", "neggrad_plus", "scrub", "delete",
           "altered")


def asked(n: int, retained: int = 11) -> Request:
    clips = tiny.clips(n + retained)
    return Request(
        clips.at(range(n)), 3, retain=clips.at(range(n, n + retained)),
        fresh=lambda seed: tiny.classifier(seed=seed),
    )


def counted(method: str, request: Request, parameters: object, seed: int = 0) -> Cost:
    assert request.retain is not None
    case = Case(request.forget.lengths, request.retain.lengths, parameters, seed)
    return planner.work_of(method, case).cost()


def recorded(method: str, request: Request, parameters: object, seed: int = 0) -> Cost:
    model = tiny.classifier()
    return methods.get(method).unlearn(model, request, parameters, seed=seed).cost


def some(method: str, **values: object) -> object:
    own = methods.parameters(method)
    known = {name: value for name, value in values.items() if hasattr(own, name)}
    return replace(own, **known)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("n", "epochs", "copies", "steps", "batch_size", "seed"),
    [(3, 1, 1, 1, 16, 0), (7, 2, 2, 3, 4, 1), (5, 3, 3, 2, 2, 5)],
)
def test_the_counted_passes_are_those_that_the_method_records(
    method, n, epochs, copies, steps, batch_size, seed
):
    request = asked(n)
    own = some(method, epochs=epochs, copies=copies, steps=steps, batch_size=batch_size)
    assert counted(method, request, own, seed) == recorded(method, request, own, seed)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("adv", {"sets": "anew"}), ("adv_ela", {"importance": "none"}),
        ("adv_ela", {"fisher_per": "batch"}), ("altered", {"anchor": 0.0}),
        ("altered", {"speeds": (0.9,), "shifts": (0.3, 0.5)}), ("scrub", {"max_epochs": 9}),
        ("scrub", {"max_epochs": 0}),
    ],
)
def test_the_choices_of_a_method_are_counted(method, values):
    request = asked(5)
    own = some(method, epochs=2, copies=2, steps=2, batch_size=2, **values)
    assert counted(method, request, own) == recorded(method, request, own)


def test_the_counts_have_closed_forms():
    n, m, p, r, e = 6, 3, 4, 11, 2
    request = asked(n, r)

    def found(method: str) -> tuple[int, int]:
        # every batch beside holds the whole forget set
        own = some(method, epochs=e, copies=m, steps=p, batch_size=n, max_epochs=1)
        cost = counted(method, request, own)
        return cost.forward_backward, cost.forward

    beside = e * n
    assert found("ran_lab") == found("neggrad") == (e * n, 0)
    assert found("delete") == (e * n, n)
    assert found("altered") == (e * 3 * n, 3 * n)  # two speeds
    assert found("adv") == (m * n * p + e * m * n + m * beside, m * n)
    assert found("adv_ela") == (n + m * n * p + e * m * n + m * beside, m * n)
    assert found("finetune") == (e * r, 0)
    assert found("neggrad_plus") == (e * r + 2 * beside, 0)  # two batches of retained clips
    assert found("scrub") == (e * r + n, n + r)


@pytest.mark.parametrize("epochs", [1, 3])
def test_training_is_counted(epochs):
    clips, cost = tiny.clips(9), Cost()
    recipe = Recipe(epochs=epochs, batch_size=4)
    training.train(tiny.classifier(), clips, recipe, seed=0, cost=cost)
    assert planner.work_of_training(clips.lengths, recipe).cost() == cost


def test_pieces_hold_the_same_clips():
    own = some("adv", copies=3, steps=2)
    lengths = tiny.clips(10).lengths
    whole, pieces = (
        planner.work_of("adv", Case(lengths, None, own, piece=piece)) for piece in (None, 4)
    )
    assert whole.cost() == pieces.cost()
    assert whole.shapes(planner.ATTACK) != pieces.shapes(planner.ATTACK)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: planner.check("ssd"), "method: 'ssd' is not one of those whose cost is planned"),
        (lambda: planner.work_of("finetune", Case([9], None, some("finetune"))), "the retain set"),
        (lambda: planner.work_of("scrub", Case([9], [9], some("scrub", rewind=True))), "rewind"),
        (lambda: planner.work_of_training([], Recipe()), "no clips to train on"),
        (lambda: planner.work_of_training([9], Recipe(speeds=(0.9, 1.0))), "speeds"),
        (
            lambda: planner.predict(
                planner.work_of_training([500], Recipe()), tiny.classifier(), tiny.clips(2),
                budget=0.0,
            ),
            "budget: 0.0 is not positive",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(act, message):
    with pytest.raises(ParameterError, match=message):
        act()


class Ticks:
    """A clock that runs by what is done: a known number of seconds for each kind of pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for kind, name in planner._ACTS.items():
            monkeypatch.setattr(planner._Timed, f"_{name}", self.act(name), raising=True)
            assert kind

    def act(self, name: str):
        def spend(timed: planner._Timed, part: object, point: planner._Point) -> None:
            pass_ = 0.01 * point.clips + 0.5 * point.clips * point.samples / 16000
            self.now += {
                "forward": 0.3 * pass_, "weights": timed.work.together * (0.02 + pass_),
                "importance": pass_,
                "attack": 0.3 * pass_ + point.steps * pass_, "step": 0.01, "epoch": 0.03,
                "altering": 0.1 * point.clips, "around": 0.2,
            }[name]

        return spend

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("budget", [0.5, 1000.0])
@pytest.mark.parametrize("method", METHODS)
def test_seconds_are_summed_over_the_batches(method, budget, monkeypatch):
    """By a clock for which the fit is true, the sum is, too: whatever batches were timed."""
    clock = Ticks(monkeypatch)
    request = asked(9)
    own = some(method, epochs=2, copies=3, steps=7, batch_size=4)
    assert request.retain is not None
    work = planner.work_of(method, Case(request.forget.lengths, request.retain.lengths, own))
    said = planner.predict(work, tiny.classifier(), request.forget, budget=budget, clock=clock)
    true = 0.0
    for line, times in work.lines.items():
        pass_ = 0.01 * line.clips + 0.5 * line.clips * line.samples / 16000
        true += times * {
            planner.FORWARD: 0.3 * pass_, planner.WEIGHTS: 0.02 + pass_,
            planner.IMPORTANCE: pass_, planner.ATTACK: 1.3 * pass_, planner.ATTACK_STEP: pass_,
            planner.STEP: 0.01, planner.EPOCH: 0.02, planner.ALTERING: 0.1 * line.clips,
            planner.AROUND: 0.2,
        }[line.kind]
    assert said.total.seconds == pytest.approx(true, rel=0.02)
    assert said.total.low == pytest.approx(said.total.high)
    assert [part.name for part in said.parts] == [*work.parts, "in all"]
    assert sum(p.seconds for p in said.parts[:-1]) == pytest.approx(said.total.seconds)


@pytest.mark.parametrize("name", ["n", "copies", "steps"])
def test_what_doubles_doubles_its_part(name, monkeypatch):
    clock = Ticks(monkeypatch)

    def predicted(**values: int) -> planner.Part:
        sizes = {"n": 4, "copies": 2, "steps": 6} | values
        request = asked(sizes.pop("n"))
        lengths = [480] * len(request.forget)
        own = some("adv", epochs=1, batch_size=4, **sizes)
        work = planner.work_of("adv", Case(lengths, None, own))
        parts = planner.predict(work, tiny.classifier(), request.forget, clock=clock).parts
        return next(part for part in parts if part.name == "adversarial copies")

    one = predicted()
    two = predicted(**{name: 2 * {"n": 4, "copies": 2, "steps": 6}[name]})
    assert two.forward_backward == 2 * one.forward_backward
    if name != "steps":  # the start and the check are made once
        assert two.seconds == pytest.approx(2 * one.seconds, rel=0.02)
    else:
        assert 1.5 * one.seconds < two.seconds < 2 * one.seconds


def test_the_model_is_left_as_it_was():
    model, request = tiny.classifier(), asked(5)
    before = tiny.weights(model)
    own = some("adv_ela", epochs=1, copies=2, steps=2)
    work = planner.work_of("adv_ela", Case(request.forget.lengths, None, own, kept=True))
    planner.predict(work, model, request.forget, budget=0.2)
    assert tiny.equal(before, tiny.weights(model)) and not model.training
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ran_lab", "altered", "adv_ela", "retrain"])
def test_a_run_takes_what_was_predicted(method):
    """To a quarter, by the median of rounds in which a prediction and its run follow each other.

    By the processor's clock, which does not count what other processes take.
    """
    model = tiny.wav2vec2(hidden_size=32, intermediate_size=64)
    source = tiny.clips(48)
    longer = [wave.repeat(8) for wave in source.waveforms_z]
    source = replace(source, waveforms_z=longer)
    forget, retain = source.at(range(16)), source.at(range(16, 48))
    own = some(method, epochs=4, copies=2, steps=4) if method != "retrain" else None
    recipe = Recipe(epochs=4)

    def run() -> float:
        begun = time.process_time()
        with machine.measured():
            if own is None:
                training.train(model_of(), retain, recipe, seed=0)
            else:
                methods.get(method).unlearn(model, Request(forget, 3), own, seed=0)
        return time.process_time() - begun

    def model_of():
        return tiny.wav2vec2(hidden_size=32, intermediate_size=64)

    if own is None:
        work, around = planner.work_of_training(retain.lengths, recipe), model_of
    else:
        work, around = planner.work_of(method, Case(forget.lengths, None, own)), None
    run()
    ratios = []
    for _ in range(3):
        said = planner.predict(
            work, model, retain, budget=4.0, around=around, clock=time.process_time
        )
        ratios.append(said.total.seconds / run())
    assert np.median(ratios) == pytest.approx(1, abs=0.25), ratios

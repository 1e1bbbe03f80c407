"""One loop and one account of work: what is killed ends as what was not, for every method."""

import io
from collections import Counter
from pathlib import Path

import pytest
import tiny
import torch

from speechunlearn import methods
from speechunlearn.errors import ParameterError
from speechunlearn.files import kept
from speechunlearn.methods import METHODS, UnlearningData
from speechunlearn.methods.base import Descent, descend
from speechunlearn.methods.losses import true_label_loss
from speechunlearn.models import loop
from speechunlearn.models.loop import Batch, Cost, Work
from speechunlearn.models.training import Recipe

torch.set_num_threads(1)

FORGET, RETAIN, VALIDATION = (tiny.clips(n, seed=n) for n in (5, 9, 8))
SMALL = {
    "epochs": 2, "learning_rate": 1e-3, "batch_size": 4, "copies": 2, "steps": 2, "draws": 2,
    "noise_steps": 2, "doublings": 3, "shards": 2, "selection": 1.0, "attack_batch_size": 3,
}
#: a method may keep more between its epochs where it is asked to
CASES = [(name, {}) for name in METHODS] + [("adv", {"sets": "anew"}), ("unsir", {"epochs": 1})]


class Killed(Exception):
    """A kill between two items of work."""


def parameters(name: str, values: dict[str, object]) -> object:
    known = vars(methods.parameters(name))
    return methods.parameters(name, **({k: v for k, v in SMALL.items() if k in known} | values))


def unlearn(name, values, resume=None, progress=None, model=None, work=None, fast=False):
    request = UnlearningData(
        FORGET, 3, retain=RETAIN, validation=VALIDATION, resume=resume,
        fresh=lambda seed: tiny.classifier(seed=seed), recipe=Recipe(2, 1e-3, 4, "one_cycle"),
    )
    return METHODS[name].unlearn(
        model or tiny.classifier(), request, parameters(name, values), seed=3,
        progress=progress, work=work, fast=fast,
    )


@pytest.mark.parametrize(("name", "values"), CASES)
def test_what_was_killed_anywhere_ends_as_what_was_not(name, values, tmp_path):
    """Killed after every item of every phase and after every epoch, each time going on."""
    told: list[tuple[str, int, int]] = []
    whole = unlearn(name, values, progress=lambda *report: told.append(report[:3]))
    assert told
    path, killed, seen = tmp_path / "state.resume", set(), Counter()

    def kill(*report: object) -> None:
        """At each place once: a place is told by what was kept, and by what was told since."""
        now[report[:3]] += 1
        seen[report[:3]] += 1
        kept = tuple(sorted(file.name for file in tmp_path.iterdir()))
        place = (report[:3], now[report[:3]], kept)
        if place not in killed:
            killed.add(place)
            raise Killed

    while True:
        now = Counter()
        try:
            again = unlearn(name, values, path, kill)
            break
        except Killed:
            pass
    assert len(killed) >= len(told)
    assert tiny.equal(tiny.weights(whole.model), tiny.weights(again.model))
    assert whole.details == again.details
    assert (whole.cost.forward_backward, whole.cost.forward) == (
        again.cost.forward_backward, again.cost.forward
    )
    epochs = [report for report in told if report[0] == "epoch"]
    assert (again.cost.kept_seconds != 0) == bool(epochs)
    # an epoch that was kept is not made again: it is told once, and ends in a kill
    assert all(seen[report] == told.count(report) for report in epochs)


@pytest.mark.parametrize(("name", "values"), CASES)
def test_the_announced_passes_are_those_that_the_models_make(name, values, monkeypatch):
    """Counted at the models' own inputs, apart from what is said of them."""
    seen = Counter()
    made = tiny.classifier()

    def look(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        seen["forward_backward" if torch.is_grad_enabled() else "forward"] += len(given[0])

    fresh = tiny.classifier
    made.register_forward_pre_hook(look)

    def watched(**given: object):
        model = fresh(**given)
        model.register_forward_pre_hook(look)
        return model

    monkeypatch.setattr(tiny, "classifier", watched)
    # a shard that the request does not touch is not its cost
    values = values | ({"shards": 1} if "sisa" in name else {})
    outcome = unlearn(name, values, model=made)
    assert seen == Counter(vars(outcome.cost) | {"kept_seconds": 0}) - Counter()


class TestTheLoop:
    @staticmethod
    def batches(epoch: int, n: int = 10, beside: tuple[int, ...] = (7,)) -> list[Batch]:
        sets = [tiny.clips(size) for size in beside]
        return loop._batches(
            tiny.clips(n), sets, 4, 5, epoch, torch.Generator().manual_seed(epoch)
        )

    def test_every_step_has_its_number(self):
        steps = [batch.step for epoch in range(3) for batch in self.batches(epoch)]
        assert steps == list(range(9))
        assert {len(b) for b in self.batches(0)} <= {4 + 4, 4 + 3, 2 + 4, 2 + 3}

    def test_a_set_beside_goes_round_and_round(self):
        """Each clip once a round, however many epochs a round takes, and in another order."""
        own = [batch.beside[0] for epoch in range(4) for batch in self.batches(epoch)]
        rounds = [sorted(a + b) for a, b in zip(own[::2], own[1::2], strict=True)]
        assert rounds == 6 * [list(range(7))]
        assert len({str(own[i : i + 2]) for i in range(0, 12, 2)}) == 2  # by length

    def test_sets_beside_are_drawn_apart(self):
        pairs = [batch.beside for e in range(4) for batch in self.batches(e, beside=(7, 7))]
        assert any(a != b for a, b in pairs)

    def test_a_step_draws_by_its_seed_epoch_and_number(self):
        drawn = {
            Batch([0], (), epoch, step, seed).generator().initial_seed()
            for seed in range(3) for epoch in range(3) for step in range(3)
        }
        assert len(drawn) == 27

    def test_a_loss_that_is_no_number_keeps_no_state(self, tmp_path):
        resume = tmp_path / "state.resume"

        def loss(model, batch):
            return true_label_loss(model, FORGET, batch.positions)

        with pytest.raises(ParameterError, match="unlearning loss is .* lower learning_rate"):
            descend(
                tiny.classifier(), FORGET, loss, Descent(epochs=9, learning_rate=1e30),
                Work(resume=resume),
            )
        states = [kept(path) for path in tmp_path.glob("*")]
        assert all(torch.load(io.BytesIO(state or b""))["history"] for state in states)


@pytest.mark.parametrize("left", [0, 10, 1000, -1])
def test_a_damaged_state_is_not_gone_on_from(left, tmp_path):
    whole = unlearn("unsir", {})
    path = tmp_path / "state.resume"
    unlearn("unsir", {}, path)
    for file in (path, tmp_path / "state-1.resume"):
        data = file.read_bytes()
        file.write_bytes(data[:left])
        again = unlearn("unsir", {}, path)
        assert tiny.equal(tiny.weights(whole.model), tiny.weights(again.model))
        assert whole.cost == again.cost


def test_an_account_counts_nothing_that_is_left_out(tmp_path):
    work = Work(resume=tmp_path / "state")
    with work.uncounted():
        list(work.phase("some", [1, 2], passes=lambda item: (item, item)))
    assert (work.forward_backward, work.forward) == (0, 0) and work.kept_seconds < 0
    list(work.phase("some", [1, 2], passes=lambda item: (item, 0)))
    assert work.forward_backward == 3
    assert isinstance(work.counted(), Cost) and type(work.counted()) is Cost


def test_progress_is_told_seldom_but_of_epochs():
    told: list[str] = []
    notify = loop.seldom(lambda name, *rest: told.append(name))
    for name in ("predictions", "epoch", "predictions", "epoch"):
        notify(name, 1, 1, 0.0)
    assert told == ["epoch", "epoch"]


def test_no_state_is_left_by_a_finished_artefact(tmp_path):
    from speechunlearn.cache import Cache

    def make(folder: Path, resume: Path) -> None:
        for number in (0, 1, 2):
            Work(resume=resume, _descent=number)._file().write_text("left")

    folder = Cache(tmp_path).find_or_make("unlearned", {"a": 1}, make)
    assert not list(tmp_path.rglob("*.resume")) and folder.is_dir()

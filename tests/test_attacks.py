"""The attack moves clips as its formula says, within tau, and leaves everything else alone."""

import json
import math
import re
from pathlib import Path

import chapter_cells
import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
import torch
from scipy.stats import chisquare
from torch.nn.functional import cross_entropy

from speechunlearn.dataset.audio import pad
from speechunlearn.dataset.clips import Clips, sorted_batches
from speechunlearn.errors import ParameterError
from speechunlearn.lab import results
from speechunlearn.methods import pgd
from speechunlearn.methods.pgd import (
    AttackParameters,
    adversarial_set,
    pgd_copies,
    random_wrong_labels,
    signal_to_noise_db,
    targeted_pgd,
)
from speechunlearn.models.classifier import Classifier, Frontend
from speechunlearn.models.loop import Cost, Work

torch.set_num_threads(1)

TAUS = [0.1, 0.3, 0.7, 1 / 3]


def generators(n: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(n)]


def starts(lengths, tau: float, seed: int = 0) -> list[torch.Tensor]:
    """The random starts that these generators give: uniform in [-tau, tau]."""
    return [
        (2 * torch.rand(n, generator=g) - 1) * tau
        for n, g in zip(lengths, generators(len(lengths), seed), strict=True)
    ]


def linear(n_classes: int = 2, time: int = 60, seed: int = 0) -> tiny.Linear:
    return tiny.Linear(torch.randn(n_classes, time, generator=generators(1, seed)[0]))


def batch(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return pad([torch.randn(length, generator=generator) for length in lengths])


def clips_of_equal_length(n: int, length: int = 60, n_classes: int = 2) -> Clips:
    generator = torch.Generator().manual_seed(3)
    return Clips(
        [torch.randn(length, generator=generator) for _ in range(n)],
        torch.arange(n) % n_classes, [f"h{i}" for i in range(n)], [f"s{i}" for i in range(n)],
    )  # fmt: skip


# ---- the step


@pytest.mark.parametrize("projection", ["step", "end"])
@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_steps_of_a_linear_model_in_closed_form(projection, steps):
    """With two classes the gradient's sign is sign(w_other - w_target) wherever the clip is."""
    model, tau = linear(), 0.4
    with torch.no_grad():
        model.weight.mul_(0.05)  # or the target's probability becomes 1, and the gradient zero
    waveform_z, lengths = batch(60, 41)
    targets = torch.tensor([1, 0])
    parameters = AttackParameters(
        tau=tau, steps=steps, step_fraction=0.3, projection=projection
    )
    moved = targeted_pgd(model, waveform_z, lengths, targets, parameters, generators(2))
    difference = model.weight[1] - model.weight[0]
    for row, (start, towards) in enumerate(
        zip(starts([60, 41], tau), (difference, -difference), strict=True)
    ):
        # both projections end at the same place, as every step goes the same way
        delta = (start + steps * 0.3 * tau * towards[: len(start)].sign()).clamp(-tau, tau)
        expected = waveform_z[row, : len(start)] + delta
        torch.testing.assert_close(moved[row, : len(start)], expected, rtol=0, atol=1e-6)


def test_projections_differ_where_the_gradient_turns():
    """A model whose gradient changes its sign: one projection saturates, the other overshoots."""

    class Turning(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, waveform_z, lengths):
            self.calls += 1
            way = 1.0 if self.calls <= 3 else -1.0
            total = way * (self.weight * waveform_z).sum(1)
            return torch.stack([total, -total], dim=1)

    waveform_z, lengths = torch.zeros(1, 50), torch.tensor([50])
    (start,) = starts([50], 0.5)
    results = {}
    for projection in ("step", "end"):
        parameters = AttackParameters(tau=0.5, steps=4, step_fraction=0.6, projection=projection)
        results[projection] = targeted_pgd(
            Turning(), waveform_z, lengths, torch.tensor([0]), parameters, generators(1)
        )[0]
    by_step = start
    for way in (1, 1, 1, -1):
        by_step = (by_step + way * 0.3).clamp(-0.5, 0.5)
    torch.testing.assert_close(results["step"], by_step, rtol=0, atol=1e-6)
    at_end = (start + 2 * 0.3).clamp(-0.5, 0.5)
    torch.testing.assert_close(results["end"], at_end, rtol=0, atol=1e-6)


def test_the_loss_of_the_target_falls():
    model = tiny.classifier()
    waveform_z, lengths = tiny.clips(6).batch(range(6))
    targets = torch.tensor([1, 2, 0, 2, 0, 1])

    def loss(x):
        with torch.no_grad():
            return cross_entropy(model(x, lengths), targets, reduction="none")

    parameters = AttackParameters(tau=0.3, steps=10)
    moved = targeted_pgd(model, waveform_z, lengths, targets, parameters, generators(6))
    assert (loss(moved) < loss(waveform_z)).all()
    further = AttackParameters(tau=0.6, steps=10)
    moved_further = targeted_pgd(model, waveform_z, lengths, targets, further, generators(6))
    assert loss(moved_further).mean() < loss(moved).mean()


@pytest.mark.parametrize("projection", ["step", "end"])
@pytest.mark.parametrize("tau", TAUS)
def test_tau_is_kept_exactly(tau, projection):
    waveform_z, lengths = batch(60, 37, 52)
    waveform_z[:, ::7] = 0.0  # where x is zero the rounding of tau itself shows
    parameters = AttackParameters(tau=tau, steps=6, projection=projection, step_fraction=0.5)
    moved = targeted_pgd(
        linear(3), waveform_z, lengths, torch.tensor([0, 1, 2]), parameters, generators(3)
    )
    assert moved.dtype == torch.float32
    largest = float((moved.double() - waveform_z.double()).abs().max())
    assert tau * (1 - 1e-5) < largest <= tau


@pytest.mark.parametrize("way", [1.0, -1.0])
@pytest.mark.parametrize("tau", TAUS)
def test_tau_is_kept_where_the_clip_is_tau_itself(tau, way, monkeypatch):
    """There a moved sample is next to zero, where the steps of a float32 are very small."""
    near = torch.linspace(-1e-6, 1e-6, 4001)
    waveform_z = torch.cat([tau + near, near - tau, near, 4e6 * near])[None]
    calls, nextafter = [], torch.nextafter

    def counted(a, b):
        calls.append(None)
        assert len(calls) < 10, "steps back to tau one by one"
        return nextafter(a, b)

    monkeypatch.setattr(torch, "nextafter", counted)
    model = tiny.Linear(torch.tensor([[way * 1e-3], [0.0]]).repeat(1, waveform_z.shape[1]))
    moved = targeted_pgd(
        model, waveform_z, torch.tensor([waveform_z.shape[1]]), torch.tensor([0]),
        AttackParameters(tau=tau, steps=4, step_fraction=1.0), generators(1),
    )  # fmt: skip
    delta = way * (moved.double() - waveform_z.double())
    # every sample moves as far as it can
    assert float(delta.max()) <= tau and float(delta.min()) > tau - 1e-6


@pytest.mark.parametrize("tau", TAUS)
def test_the_start_alone_keeps_tau(tau):
    waveform_z, lengths = batch(3000)
    parameters = AttackParameters(tau=tau, steps=1, step_fraction=1e-12)
    model = linear(2, 3000)
    moved = targeted_pgd(model, waveform_z, lengths, torch.tensor([0]), parameters, generators(1))
    delta = (moved.double() - waveform_z.double())[0]
    assert float(delta.abs().max()) <= tau
    # uniform: its standard deviation is tau / sqrt(3), its mean zero
    assert float(delta.std()) == pytest.approx(tau / math.sqrt(3), rel=0.05)
    assert abs(float(delta.mean())) < 0.05 * tau


def test_padding_is_never_touched():
    waveform_z, lengths = batch(400, 800, 555)
    parameters = AttackParameters(tau=0.5, steps=3)
    # this model looks at the padding
    seen = []

    class Spy(tiny.Linear):
        def forward(self, waveform_z, lengths):
            seen.append(waveform_z.detach().clone())
            return super().forward(waveform_z, lengths)

    model = Spy(torch.randn(3, 800, generator=generators(1)[0]))
    moved = targeted_pgd(
        model, waveform_z, lengths, torch.tensor([0, 1, 2]), parameters, generators(3)
    )
    assert moved.shape == waveform_z.shape
    for answer in (*seen, moved):
        assert (answer[0, 400:] == 0).all() and (answer[2, 555:] == 0).all()
        assert (answer[0, :400] != waveform_z[0, :400]).float().mean() > 0.9
    # the clips that were given are as they were
    assert torch.equal(waveform_z, batch(400, 800, 555)[0])


def test_a_copy_does_not_depend_on_its_batch():
    # double precision: a gradient near zero would turn its sign on the last bit of a float32
    model = tiny.wav2vec2().double()
    waveform_z, lengths = batch(500, 900, 700)
    targets = torch.tensor([1, 2, 0])
    parameters = AttackParameters(tau=0.3, steps=5)
    together = targeted_pgd(
        model, waveform_z.double(), lengths, targets, parameters, generators(3)
    )
    for row, length in enumerate(lengths.tolist()):
        alone = targeted_pgd(
            model, waveform_z[row : row + 1, :length].double(), lengths[row : row + 1],
            targets[row : row + 1], parameters, generators(1, seed=row),
        )  # fmt: skip
        torch.testing.assert_close(together[row, :length], alone[0], rtol=0, atol=1e-6)


# ---- what is left alone


class Spy(torch.nn.Module):
    """A linear model that records the mode it is called in, and may fail."""

    def __init__(self, fail_at: int | None = None):
        super().__init__()
        self.body = linear(2, 800)
        self.dropout = torch.nn.Dropout(0.5)
        self.norm = torch.nn.BatchNorm1d(2)
        self.fail_at = fail_at
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, waveform_z, lengths):
        self.modes.append((self.training, self.dropout.training))
        if len(self.modes) == self.fail_at:
            raise RuntimeError("out of memory")
        return self.dropout(self.body(waveform_z, lengths))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("fail_at", [None, 1, 2, 4])
def test_the_model_is_given_back_as_it_was(mode, fail_at):
    model = Spy(fail_at)
    model.train()
    model.norm.eval()
    model.body.bias.requires_grad_(False)
    model.body.weight.grad = torch.full_like(model.body.weight, 2.0)
    before = tiny.weights(model)
    clips = tiny.clips(2, 2)
    parameters = AttackParameters(copies=1, steps=3, mode=mode)
    if fail_at is None:
        adversarial_set(model, clips, 2, parameters, seed=0)
        # the attack's steps in the mode asked for; whether the target is reached, in eval mode
        assert model.modes == 3 * [(mode == "train",) * 2] + [(False, False)]
    else:
        with pytest.raises(RuntimeError, match="out of memory"):
            adversarial_set(model, clips, 2, parameters, seed=0)
    assert tiny.equal(before, tiny.weights(model))
    assert model.training and model.dropout.training and model.body.training
    assert not model.norm.training
    assert model.body.weight.requires_grad and not model.body.bias.requires_grad
    assert (model.body.weight.grad == 2.0).all() and model.body.bias.grad is None


def test_no_gradient_is_left_and_none_is_taken_of_the_weights():
    model = tiny.classifier()
    flags = []
    model.register_forward_pre_hook(
        lambda module, args: flags.append([p.requires_grad for p in module.parameters()])
    )
    adversarial_set(model, tiny.clips(3), 3, AttackParameters(copies=2, steps=2), seed=0)
    assert not any(flag for call in flags for flag in call)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not model.training


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_global_randomness_is_left_alone(mode):
    torch.manual_seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    parameters = AttackParameters(copies=2, steps=2, mode=mode)
    first = adversarial_set(tiny.classifier(), tiny.clips(3), 3, parameters, seed=0)
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])
    torch.manual_seed(6)
    again = adversarial_set(tiny.classifier(), tiny.clips(3), 3, parameters, seed=0)
    assert all(map(torch.equal, first.clips.waveforms_z, again.clips.waveforms_z))


def test_train_mode_draws_dropout():
    answers = [
        adversarial_set(
            tiny.classifier(dropout=0.5), tiny.clips(3), 3,
            AttackParameters(copies=1, steps=3, mode=mode), seed=0,
        ).clips.waveforms_z
        for mode in ("eval", "train")
    ]  # fmt: skip
    assert not all(map(torch.equal, *answers))


def test_train_mode_attacks_a_speech_encoder_and_gives_it_back():
    """transformers sets a flag on the input of its convolutions, in training, that may fail."""
    model = tiny.wav2vec2(hidden_dropout=0.5)
    encoder = model.network.wav2vec2.feature_extractor
    parameters = AttackParameters(tau=0.2, copies=1, steps=2, mode="train")
    made = adversarial_set(model, tiny.clips(3), 3, parameters, seed=0)
    assert encoder._requires_grad is True and not model.training
    again = adversarial_set(model, tiny.clips(3), 3, parameters, seed=0)
    assert all(map(torch.equal, made.clips.waveforms_z, again.clips.waveforms_z))
    encoder._freeze_parameters()
    adversarial_set(model, tiny.clips(3), 3, parameters, seed=0)
    assert encoder._requires_grad is False


def test_what_follows_from_the_weights_alone_is_computed_once():
    model, calls = tiny.wav2vec2(), []
    convolution = model.network.wav2vec2.encoder.pos_conv_embed.conv
    norm = convolution.parametrizations.weight[0]
    norm.register_forward_hook(lambda *_: calls.append(None))
    parameters = AttackParameters(copies=2, steps=5, batch_size=4)
    adversarial_set(model, tiny.clips(4), 3, parameters, seed=0)
    assert len(calls) == 1
    # and anew once the weights have changed
    waveform_z, lengths = tiny.clips(2).batch(range(2))
    with torch.no_grad():
        before = model(waveform_z, lengths)
        convolution.parametrizations.weight.original0.mul_(3)
        assert not torch.equal(model(waveform_z, lengths), before)
    calls.clear()
    adversarial_set(model, tiny.clips(4), 3, parameters, seed=0)
    assert len(calls) == 1


# ---- a copy that is finished


def test_a_copy_is_finished_at_the_first_step_that_has_the_margin():
    """It stays where an attack of that many steps leaves it; the others go on."""
    model, tau, margin = linear(n_classes=3), 0.4, 2.0
    waveform_z, lengths = batch(60, 41, 50, 33)
    targets = torch.tensor([0, 1, 2, 1])

    def moved(steps, margin=None, taken=None):
        parameters = AttackParameters(tau=tau, steps=steps, step_fraction=0.1, margin=margin)
        return targeted_pgd(
            model, waveform_z, lengths, targets, parameters, generators(4), Cost(), taken
        )

    def ahead(waveforms_z):
        logits = model(waveforms_z, lengths)
        others = [logits[i][torch.arange(3) != t].max() for i, t in enumerate(targets)]
        return logits.gather(1, targets[:, None])[:, 0] - torch.stack(others)

    taken = torch.zeros(4, dtype=torch.int64)
    stopped = moved(12, margin, taken)
    by_steps = [moved(steps) for steps in range(1, 13)]
    for row, passes in enumerate(taken.tolist()):
        # the last pass of a finished one only finds that it is there
        steps = passes - 1 if ahead(stopped)[row] >= margin and passes < 12 else passes
        if steps:
            assert torch.equal(stopped[row], by_steps[steps - 1][row])
        if steps > 1:
            assert ahead(by_steps[steps - 2])[row] < margin
    assert len(set(taken.tolist())) > 1 and taken.min() < 12
    # out of reach: P steps for all
    assert torch.equal(moved(5, 1e6, taken), moved(5)) and taken.tolist() == [5] * 4


def test_what_finished_copies_did_not_take_is_not_counted():
    model, clips = linear(n_classes=3), clips_of_equal_length(3, n_classes=3)
    counts = {}
    for margin in (None, 1.0):
        cost = Cost()
        parameters = AttackParameters(
            tau=0.4, copies=2, steps=12, step_fraction=0.1, batch_size=4, margin=margin
        )
        made = adversarial_set(model, clips, 3, parameters, seed=0, cost=cost)
        counts[margin] = cost.forward_backward
        assert cost.forward == 6
    assert counts[None] == 6 * 12
    assert 6 <= counts[1.0] < 6 * 12 and made.success_rate == 1.0


def test_a_margin_is_positive():
    with pytest.raises(ParameterError, match="margin: 0.0 is not positive"):
        AttackParameters(margin=0.0)


# ---- memory


class Sizes(tiny.Linear):
    """A linear model that records the shapes of the batches that reach it."""

    def __init__(self, time: int):
        super().__init__(torch.randn(2, time, generator=generators(1)[0]))
        self.shapes: set[tuple[int, ...]] = set()

    def forward(self, waveform_z, lengths):
        self.shapes.add(tuple(waveform_z.shape))
        return super().forward(waveform_z, lengths)


def largest_batch(n: int, copies: int, batch_size: int = 32) -> int:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(50, 201, (n,), generator=generator).tolist()
    lengths[0] = 200
    clips = Clips(
        [torch.randn(length, generator=generator) for length in lengths],
        torch.arange(n) % 2, [f"h{i}" for i in range(n)], [f"s{i}" for i in range(n)],
    )  # fmt: skip
    model = Sizes(200)
    parameters = AttackParameters(copies=copies, steps=1, batch_size=batch_size)
    made = adversarial_set(model, clips, 2, parameters, seed=0)
    assert len(made.clips) == n * copies and all(len(x) for x in made.clips.waveforms_z)
    assert all(x.device.type == "cpu" for x in made.clips.waveforms_z)
    assert max(batch for batch, _ in model.shapes) <= batch_size
    return max(batch * time for batch, time in model.shapes)


def test_no_batch_grows_with_the_clips_or_their_copies(monkeypatch):
    monkeypatch.setattr(pgd, "CHUNK_SAMPLES", 1000)
    sizes = [largest_batch(n, copies) for n, copies in ((4, 4), (30, 4), (30, 40), (120, 10))]
    assert all(800 <= size <= 1000 for size in sizes)
    # the batch size bounds what the samples do not
    assert largest_batch(30, 10, batch_size=3) == 600
    # one clip that is longer than a chunk is a batch alone
    monkeypatch.setattr(pgd, "CHUNK_SAMPLES", 70)
    assert largest_batch(30, 2) == 200


def test_the_live_memory_of_an_attack_does_not_grow_with_the_copies():
    """Counted in elements of the tensors that the model is given and has made at a time."""
    most = []
    for copies in (2, 20):
        model, alive, peak = tiny.wav2vec2(), [0], [0]

        def pack(tensor, alive=alive, peak=peak):
            class Kept:
                def __init__(self, value):
                    self.value, alive[0] = value, alive[0] + value.numel()
                    peak[0] = max(peak[0], alive[0])

                def __del__(self):
                    alive[0] -= self.value.numel()

            return Kept(tensor)

        parameters = AttackParameters(copies=copies, steps=2, batch_size=4)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.value):
            adversarial_set(model, clips_of_equal_length(4, 500, 3), 3, parameters, seed=0)
        assert alive[0] == 0
        most.append(peak[0])
    assert most[0] == most[1] > 0


def resident_mb() -> float:
    held = re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(held[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize("kind", ["targeted", "moved"])
def test_memory_holds_no_copies(kind):
    """Eight clips of 5 s are 2.4 MiB, eighty copies of each 195; libraries take 20 to 35."""
    clips, n = clips_of_equal_length(8, 80_000), 80
    network = tiny.Linear(1e-3 * torch.randn(2, 80_000, generator=generators(1)[0]))
    before = resident_mb()
    if kind == "targeted":
        parameters = AttackParameters(copies=n, steps=1, batch_size=4)
        copies = adversarial_set(network, clips, 2, parameters, seed=0).clips
    else:
        model = Classifier(network, ["a", "b"], Frontend())
        model.forward = network.forward
        repeated = clips.at([i for i in range(8) for _ in range(n)])
        copies = pgd_copies(model, repeated, Cost(), 0.1, batch_size=4)
    assert copies.lengths == 8 * n * [80_000]
    for i, clip in enumerate(clips.waveforms_z):
        assert 0 < (copies.waveforms_z[n * i + n - 1] - clip).abs().max() < 1
    assert resident_mb() - before < 80


@pytest.mark.parametrize("alike", [False, True])
def test_batches_hold_each_clip_once_within_their_bounds(alike):
    lengths = np.random.default_rng(0).integers(10, 100, 83).tolist() + 20 * [55] + [400]
    made = list(sorted_batches(lengths, 8, 500, alike=alike))
    assert sorted(sum(made, [])) == list(range(len(lengths)))
    assert made[0] == [len(lengths) - 1]
    for batch in made[1:]:
        assert len(batch) <= 8 and max(lengths[i] for i in batch) * len(batch) <= 500
    # the longest first, so that what does not fit fails at once
    order = [lengths[i] for batch in made for i in batch]
    assert order == sorted(order, reverse=True)


def test_batches_of_copies_are_not_padded_where_asked():
    lengths = [n for n in (90, 70, 50, 30) for _ in range(20)]
    made = list(sorted_batches(lengths, 32, 10**6, alike=True))
    assert [len(batch) for batch in made] == [20, 20, 20, 20]
    assert all(len({lengths[i] for i in batch}) == 1 for batch in made)
    assert [len(batch) for batch in sorted_batches(lengths, 32, 10**6)] == [32, 32, 16]


# ---- precision


@pytest.mark.parametrize("tau", TAUS)
def test_half_precision_keeps_tau_exactly(tau):
    model, clips = tiny.wav2vec2(), tiny.clips(4)
    seen = []
    first = model.network.wav2vec2.feature_extractor.conv_layers[0].conv
    first.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    parameters = AttackParameters(tau=tau, copies=2, steps=6, precision="bfloat16")
    made = adversarial_set(model, clips, 3, parameters, seed=0)
    assert seen.count(torch.bfloat16) == 6 and seen.count(torch.float32) == 1
    largest = 0.0
    for i, copied in enumerate(made.clips.waveforms_z):
        assert copied.dtype == torch.float32
        delta = (copied.double() - clips.waveforms_z[i // 2].double()).abs()
        largest = max(largest, float(delta.max()))
    assert tau * (1 - 1e-5) < largest <= tau


def test_half_precision_moves_towards_the_target_as_float32_does():
    model = tiny.wav2vec2()
    waveform_z, lengths = tiny.clips(6).batch(range(6))
    targets = torch.tensor([1, 2, 0, 2, 0, 1])
    losses = []
    for precision in ("float32", "bfloat16"):
        parameters = AttackParameters(tau=0.3, steps=10, precision=precision)
        moved = targeted_pgd(model, waveform_z, lengths, targets, parameters, generators(6))
        with torch.no_grad():
            losses.append(float(cross_entropy(model(moved, lengths), targets)))
    with torch.no_grad():
        before = float(cross_entropy(model(waveform_z, lengths), targets))
    assert before - losses[1] > 0.9 * (before - losses[0]) > 0


# ---- wrong labels


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_wrong_labels_are_uniform_over_the_others(n_classes):
    labels = torch.arange(n_classes).repeat_interleave(6000)
    wrong = random_wrong_labels(labels, n_classes, torch.Generator().manual_seed(0))
    counts = np.zeros((n_classes, n_classes), dtype=int)
    np.add.at(counts, (labels.numpy(), wrong.numpy()), 1)
    assert (np.diag(counts) == 0).all()
    for true in range(n_classes):
        others = np.delete(counts[true], true)
        assert others.sum() == 6000
        if n_classes > 2:
            assert chisquare(others).pvalue > 1e-3


def test_wrong_labels_need_two_classes():
    with pytest.raises(ParameterError, match="n_classes: 1"):
        random_wrong_labels(torch.zeros(3, dtype=torch.long), 1, torch.Generator())


def test_targets_of_the_copies_are_uniform_over_the_others():
    clips = clips_of_equal_length(6, 10, n_classes=3)
    parameters = AttackParameters(copies=300, steps=1, batch_size=1800)
    made = adversarial_set(linear(3, 10), clips, 3, parameters, seed=1)
    targets = made.clips.labels.reshape(6, 300)
    for label, aims in zip(clips.labels.tolist(), targets, strict=True):
        counts = np.bincount(aims.numpy(), minlength=3)
        assert counts[label] == 0
        assert chisquare(np.delete(counts, label)).pvalue > 1e-3
    # and the copies of one clip start in different places
    copies = torch.stack(made.clips.waveforms_z[:300])
    assert len(torch.unique(copies, dim=0)) == 300


# ---- the set


def test_the_copies_of_a_clip_follow_one_another():
    clips = tiny.clips(4)
    parameters = AttackParameters(tau=0.2, copies=3, steps=2, batch_size=5)
    made = adversarial_set(tiny.classifier(), clips, 3, parameters, seed=0)
    assert len(made.clips) == 12 == len(made.reached) and made.copies == 3
    assert made.clips.hashes == [h for h in clips.hashes for _ in range(3)]
    assert made.clips.speakers == [s for s in clips.speakers for _ in range(3)]
    for i, copy in enumerate(made.clips.waveforms_z):
        source = clips.waveforms_z[i // 3]
        assert copy.shape == source.shape
        delta = (copy.double() - source.double()).abs()
        assert 0 < float(delta.max()) <= 0.2
        assert made.clips.labels[i] != clips.labels[i // 3]
    assert clips.labels.tolist() == [0, 1, 2, 0]


def test_the_first_clips_have_the_same_copies_however_many_follow():
    clips = tiny.clips(5)
    parameters = AttackParameters(copies=2, steps=3, batch_size=4)
    model = tiny.classifier()
    whole = adversarial_set(model, clips, 3, parameters, seed=0).of_first(2)
    part = adversarial_set(model, clips.at([0, 1]), 3, parameters, seed=0)
    assert whole.clips.labels.tolist() == part.clips.labels.tolist()
    assert whole.clips.hashes == part.clips.hashes and whole.copies == part.copies == 2
    assert torch.equal(whole.reached, part.reached)
    for a, b in zip(whole.clips.waveforms_z, part.clips.waveforms_z, strict=True):
        # a gradient near zero may turn its sign where padding differs
        assert float((a - b).abs().gt(1e-6).float().mean()) < 0.01
    other = adversarial_set(model, clips.at([0, 1]), 3, parameters, seed=1)
    assert not torch.equal(other.clips.waveforms_z[0], part.clips.waveforms_z[0])


def test_success_is_counted():
    # class 0 is what this model says whatever it hears
    model = tiny.Linear(torch.zeros(3, 60), torch.tensor([1.0, 0.0, 0.0]))
    clips = clips_of_equal_length(20, n_classes=3)
    parameters = AttackParameters(copies=3, steps=1, batch_size=7)
    made = adversarial_set(model, clips, 3, parameters, seed=0)
    expected = made.clips.labels == 0
    assert 0 < int(expected.sum()) < len(expected)
    assert torch.equal(made.reached, expected)
    assert made.success_rate == pytest.approx(float(expected.sum()) / 60)
    first = made.of_first(4)
    assert len(first.clips) == 12
    assert first.success_rate == pytest.approx(float(expected[:12].sum()) / 12)


def test_a_large_tau_reaches_every_target():
    parameters = AttackParameters(tau=2.0, copies=2, steps=10)
    made = adversarial_set(linear(3), clips_of_equal_length(5, n_classes=3), 3, parameters, seed=0)
    assert made.success_rate == 1.0


def test_cost_is_counted():
    reports = []
    work = Work(progress=lambda *report: reports.append(report[:3]))
    parameters = AttackParameters(copies=3, steps=4, batch_size=4)
    adversarial_set(
        tiny.classifier(), tiny.clips(5), 3, parameters, seed=0, cost=work
    )  # fmt: skip
    assert work.counted() == Cost(forward_backward=3 * 4 * 5, forward=15)
    assert reports == [("adversarial copies", done, 4) for done in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    "name, value",
    [
        ("tau", 0.0), ("tau", -0.3), ("tau", float("nan")), ("copies", 0), ("steps", 0),
        ("batch_size", 0), ("step_fraction", 0.0), ("projection", "x"), ("mode", "half"),
        ("precision", "float16"),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(name, value):
    with pytest.raises(ParameterError, match=f"{name}: {value!r}"):
        AttackParameters(**{name: value})


# ---- other people's attacks


class Smooth(torch.nn.Module):
    """Called with waveforms alone, as image models are."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.first = torch.nn.Parameter(0.2 * torch.randn(16, 80, generator=generator))
        self.second = torch.nn.Parameter(torch.randn(3, 16, generator=generator))

    def forward(self, x, lengths=None):
        return torch.tanh(x @ self.first.T) @ self.second.T


@pytest.fixture
def ours(monkeypatch):
    """Our copies of three clips with a start of zero, and what they were made from."""
    waveform_z, lengths = batch(80, 80, 80)
    targets = torch.tensor([2, 0, 1])
    parameters = AttackParameters(tau=0.3, steps=7, step_fraction=0.25)
    with monkeypatch.context() as patch:
        patch.setattr(pgd.torch, "rand", lambda n, generator: torch.full((n,), 0.5))
        moved = targeted_pgd(Smooth(), waveform_z, lengths, targets, parameters, generators(3))
    assert (moved - waveform_z).abs().max() > 0.29
    return waveform_z, targets, moved


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_torchattacks(ours):
    torchattacks = pytest.importorskip("torchattacks", reason="`make bench` installs torchattacks")
    waveform_z, targets, moved = ours
    # it clamps to [0, 1]: 16 units of the waveform are made to span that
    span = 16.0

    class Scaled(Smooth):
        def forward(self, x):
            return super().forward((x - 0.5) * span)

    attack = torchattacks.PGD(
        Scaled(), eps=0.3 / span, alpha=0.075 / span, steps=7, random_start=False
    )
    attack.set_mode_targeted_by_label()
    theirs = (attack(waveform_z / span + 0.5, targets) - 0.5) * span
    torch.testing.assert_close(theirs, moved, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_the_adversarial_robustness_toolbox(ours):
    pytest.importorskip("art", reason="the extra `bench` installs adversarial-robustness-toolbox")
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    waveform_z, targets, moved = ours
    classifier = PyTorchClassifier(
        Smooth(), torch.nn.CrossEntropyLoss(), (80,), 3, clip_values=None, device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(
        classifier, norm=np.inf, eps=0.3, eps_step=0.075, max_iter=7, targeted=True,
        num_random_init=0, batch_size=3, verbose=False,
    )  # fmt: skip
    theirs = attack.generate(waveform_z.numpy(), torch.eye(3)[targets].numpy())
    torch.testing.assert_close(torch.from_numpy(theirs), moved, rtol=0, atol=1e-5)


# ---- signal to noise


def test_signal_to_noise_in_closed_form():
    waveform_z = torch.tensor([3.0, -4.0, 0.0, 5.0])  # power 12.5
    noise = torch.tensor([0.5, 0.5, -0.5, 0.5])  # power 0.25
    assert signal_to_noise_db(waveform_z, waveform_z + noise) == pytest.approx(
        10 * math.log10(50), abs=1e-6
    )
    assert signal_to_noise_db(waveform_z, waveform_z + 0.125 * noise) == pytest.approx(
        10 * math.log10(50) + 20 * math.log10(8), abs=1e-6
    )
    assert signal_to_noise_db(waveform_z, waveform_z) == float("inf")


def test_what_is_heard_is_what_its_table_says():
    folder = results.COMMITTED.parent / "heard"
    table = pd.read_csv(folder / "heard.csv").set_index("file")
    made_by = json.loads((folder / "made_by.json").read_text())
    sounds = {file: soundfile.read(folder / file)[0] for file in table.index}
    clip = sounds["clip.flac"]
    scale, step = clip.std(), 2**-15  # of the 16 bits
    copies = table[table["target"].notna()]
    assert copies["tau"].tolist() == [0.1, 0.3, 0.7]
    for file, row in copies.iterrows():
        delta = sounds[file] - clip
        assert 0.9 * row["tau"] < np.abs(delta).max() / scale < row["tau"] + 2 * step / scale
        snr = 10 * np.log10((clip**2).sum() / (delta**2).sum())
        assert snr == pytest.approx(row["snr_db"], abs=0.06)
    alone, louder = sounds["perturbation-alone.flac"], sounds["perturbation-louder.flac"]
    assert np.abs(alone - (sounds["copy-0.1.flac"] - clip)).max() < 2 * step
    assert np.abs(louder - made_by["louder"] * alone).max() < made_by["louder"] * step
    source = chapter_cells.with_text("04_adversarial_and_elastic", "heard.csv")
    players = chapter_cells.execute(source, {"protocol": results, "pd": pd}).data
    assert players.count("<audio") == len(table) and players.count("tau = 0.1") == 2

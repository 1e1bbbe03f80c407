"""PGD on waveforms (Madry et al. 2018): the paper's attack, and clips moved a little.

The paper's (Ren et al. 2025, equations 2 and 3) is targeted. Equation 2 is printed with a plus
sign, which would ascend the loss of the target; a targeted attack descends it, as is done here.
What other methods learn from (`pgd_copies`) is moved without a start inside the bound, towards a
class or away from one, also in the Euclidean norm; one signed step is Goodfellow et al.'s (2015).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn.dataset.clips import Clips, Labels, Lengths, Replaced, Waveforms, sorted_batches
from speechunlearn.errors import Checked, ParameterError, Positive, one_of
from speechunlearn.methods.layers import only_trainable
from speechunlearn.models import fast_mode
from speechunlearn.models.classifier import seeded
from speechunlearn.models.loop import Cost, generator, padded, sized

#: most samples, padding included, in a batch that is attacked: 32 clips of 6 s at 16 kHz. What an
#: attack holds on the device grows with this, and with neither the clips nor their copies
CHUNK_SAMPLES = 32 * 6 * 16_000


@dataclass(frozen=True)
class AttackParameters(Checked):
    """How adversarial copies are made.

    Args:
        tau: bound on abs(delta), in units of the z-normalised waveform (the paper: 0.1 to 0.7)
        copies: M, adversarial copies a clip (the paper: 20)
        steps: P, sign-gradient steps (the paper: 50)
        step_fraction: sigma / tau. The paper does not give sigma; its authors' earlier code
            took a quarter of tau
        projection: ``step`` clips delta to [-tau, tau] after each step (PGD as published);
            ``end`` clips once after the last (the wording of the paper)
        mode: ``eval`` or ``train`` (dropout on): the paper does not say
        batch_size: copies attacked at once, at most: fewer where they are long, see
            `adversarial_set`
        precision: ``float32``, or ``bfloat16`` for the products inside the model; clip, delta and
            the bound on it are float32 either way
        margin: a copy is finished when the logit of its target is so far above every other: it
            takes fewer steps. None: it takes P steps, as in the paper

    """

    tau: Positive[float] = 0.3
    copies: Positive[int] = 20
    steps: Positive[int] = 50
    step_fraction: Positive[float] = 0.25
    projection: Annotated[str, one_of("step", "end")] = "step"
    mode: Annotated[str, one_of("eval", "train")] = "eval"
    batch_size: Positive[int] = 32
    precision: Annotated[str, one_of("float32", "bfloat16")] = "float32"
    margin: Positive[float | None] = None


@dataclass(frozen=True)
class AdversarialSet:
    """Adversarial copies of clips, the copies of a clip one after another.

    Args:
        clips: the copies, labelled with their targets; hash and speaker are the source clip's
        reached: whether the model says the target, shape ``[clips * copies]``
        copies: M, copies a clip

    """

    clips: Clips
    reached: Tensor
    copies: int

    @property
    def success_rate(self) -> float:
        """Share of the copies that reach their target."""
        return float(self.reached.double().mean())

    def of_first(self, n: int) -> AdversarialSet:
        """Return the copies of the first n source clips."""
        count = n * self.copies
        return AdversarialSet(self.clips.at(range(count)), self.reached[:count], self.copies)


def random_wrong_labels(
    labels: Int[Tensor, " clips"], n_classes: int, generator: torch.Generator
) -> Int[Tensor, " clips"]:
    """Draw a label for each clip, uniform over the classes other than its own.

    Source: Ren et al. 2025, section 2.1.

    Args:
        labels: true class of each clip
        n_classes: number of classes, at least 2
        generator: source of the draw

    Raises:
        ParameterError: fewer than two classes

    """
    if n_classes < 2:
        raise ParameterError(f"n_classes: {n_classes}, but a wrong label needs two or more")
    shift = torch.randint(1, n_classes, labels.shape, generator=generator)
    return (labels + shift) % n_classes


def targeted_pgd(
    model: torch.nn.Module,
    waveform_z: Waveforms,
    lengths: Lengths,
    targets: Labels,
    parameters: AttackParameters,
    generators: Sequence[torch.Generator],
    cost: Cost | None = None,
    taken: Int[Tensor, " clips"] | None = None,
) -> Waveforms:
    """Move clips, each by at most tau a sample, towards being classified as their targets.

    .. math:: x_0 = x + u, \\quad u \\sim U(-\\tau, \\tau), \\qquad
              x_{t+1} = \\Pi_{|x' - x| \\le \\tau}
              (x_t - \\sigma\\, \\mathrm{sign} \\nabla_x \\mathrm{CE}(f(x_t), \\tilde y))

    Args:
        model: called as ``model(waveform_z, lengths)``, returns logits
        waveform_z: normalised clips, zero-padded
        lengths: samples of each clip; what lies beyond is padding and stays zero
        targets: class each clip is moved towards
        parameters: tau, steps and the rest
        generators: source of each clip's random start, on the CPU: one a clip, so that a
            clip's start does not depend on its batch
        cost: counted into; only where the model is frozen already
        taken: filled with the steps of each clip, which a margin makes fewer

    Returns:
        the moved clips; every abs(difference) is at most tau, computed exactly

    """
    if cost is None:
        with frozen(model, train=parameters.mode == "train"):
            return targeted_pgd(
                model, waveform_z, lengths, targets, parameters, generators, Cost(), taken
            )
    tau = parameters.tau
    starts = [
        (torch.rand(int(length), generator=generator) * 2 - 1) * tau
        for length, generator in zip(lengths, generators, strict=True)
    ]
    delta = torch.nn.utils.rnn.pad_sequence(starts, batch_first=True).to(waveform_z.device)
    delta = torch.nn.functional.pad(delta, (0, waveform_z.shape[1] - delta.shape[1]))
    steps = projected_steps_(
        delta, model, waveform_z, lengths, targets, steps=parameters.steps, cost=cost, bound=tau,
        fraction=parameters.step_fraction, targeted=True,
        project=parameters.projection == "step", precision=parameters.precision,
        margin=parameters.margin,
    )
    if taken is not None:
        taken.copy_(steps)
    moved = waveform_z + delta.clamp_(-tau, tau)
    # where float32 rounding of the sum lies beyond tau, one unit in the last place less
    offset = moved.double() - waveform_z.double()
    size = torch.maximum(waveform_z.abs(), moved.abs())
    unit = torch.nextafter(size, torch.full_like(size, torch.inf)) - size
    inside = waveform_z.double() + offset.sign() * (tau - unit.double())
    return torch.where(offset.abs() > tau, inside.float(), moved)


def projected_steps_(
    delta: Waveforms,
    model: torch.nn.Module,
    waveform_z: Waveforms,
    lengths: Lengths,
    labels: Labels,
    *,
    steps: int,
    cost: Cost,
    bound: float,
    fraction: float,
    norm: str = "linf",
    targeted: bool,
    project: bool = True,
    precision: str = "float32",
    margin: float | None = None,
) -> Int[Tensor, " clips"]:
    r"""Take projected gradient steps, in place.

    .. math:: \delta \leftarrow \Pi\bigl(\delta \pm \sigma\,
              g(\nabla_x \mathrm{CE}(f(x + \delta), y))\bigr)

    with g the sign, or the gradient over its norm. Source: Madry et al. 2018.

    Args:
        delta: what is added to the clips so far
        model: see `targeted_pgd`; its weights are frozen
        waveform_z: normalised clips, zero-padded
        lengths: samples of each clip; what lies beyond is padding, and delta stays zero there
        labels: class each clip is moved towards, or away from
        steps: how many
        cost: in which they are a phase; their passes are the caller's to count
        bound: largest size of delta: of ``linf`` its largest sample, of ``l2`` its root mean square
            over the clip, so that a long clip may move as far a sample as a short one
        fraction: size of the step, sigma, over the bound
        norm: ``linf`` or ``l2``
        targeted: towards the labels, or away from them
        project: whether delta of ``linf`` is put back inside the bound after each step
        precision: ``float32``, or ``bfloat16`` for the products inside the model
        margin: how far the logit of a clip's label must be above every other for it to be finished

    Returns:
        passes that each clip took, the last of a finished one found it there

    """
    step = -fraction if targeted else fraction
    reach = bound * lengths[:, None].sqrt()  # of the length of a clip's delta
    taken = torch.full((len(delta),), steps)
    rows: slice | Tensor = slice(None)  # the clips that are not finished
    for number in cost.phase("attack steps", range(steps), samples=sized(delta), quiet=True):
        gradient, logits = input_gradient(
            model, (waveform_z + delta)[rows], lengths[rows], labels[rows], precision
        )
        if margin is not None:
            ahead = margins(logits, labels[rows]) >= margin
            places = torch.arange(len(delta), device=delta.device)[rows]
            taken[places[ahead].cpu()] = number + 1
            rows, gradient = places[~ahead], gradient[~ahead]
            if not len(rows):
                break
        if norm == "linf":
            moved = delta[rows].add_(gradient.sign_(), alpha=step * bound)
            delta[rows] = moved.clamp_(-bound, bound) if project else moved
        else:
            delta.add_(torch.nn.functional.normalize(gradient, dim=1).mul_(reach), alpha=step)
            delta.mul_((reach / delta.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp(max=1))
    return taken


def margins(
    logits: Float[Tensor, "clips classes"], labels: Int[Tensor, " clips"]
) -> Float[Tensor, " clips"]:
    """Return how far the logit of each label is above the largest of the others."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return logits.gather(1, labels[:, None])[:, 0] - others.max(1).values


def input_gradient(
    model: torch.nn.Module,
    waveform_z: Waveforms,
    lengths: Lengths,
    labels: Labels,
    precision: str = "float32",
) -> tuple[Waveforms, Float[Tensor, "clips classes"]]:
    """Return the gradient of each clip's cross-entropy by its samples, and its logits.

    The gradient is zero in the padding.

    Args:
        model: see `targeted_pgd`
        waveform_z: zero-padded
        lengths: samples of each clip
        labels: class of each clip
        precision: see `projected_steps_`

    """
    there = waveform_z.detach().requires_grad_(True)
    reduced = precision != "float32"
    with torch.autocast(there.device.type, dtype=torch.bfloat16, enabled=reduced):
        logits = model(there, lengths)
    # summed, not averaged: a clip's gradient does not depend on its batch
    logits = logits.float()
    loss = cross_entropy(logits, labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, there)
    inside = torch.arange(there.shape[1], device=there.device) < lengths[:, None]
    return gradient.mul_(inside), logits.detach()


def adversarial_set(
    model: torch.nn.Module,
    clips: Clips,
    n_classes: int,
    parameters: AttackParameters,
    *,
    seed: int,
    first: int = 0,
    cost: Cost | None = None,
) -> AdversarialSet:
    """Make M adversarial copies of each clip, each with its own random target and start.

    Source: Ren et al. 2025, section 2.2.1. The draws of a clip depend on the seed and its place
    alone, so the set of the first n clips is the same however many follow.

    Clips stay in memory and copies on disk; on the model's device there is one batch at a time
    (inside `speechunlearn.models.fast_mode.fast`, one a worker), of ``batch_size`` copies and
    `CHUNK_SAMPLES` samples at most, or of a single clip that is longer.

    Args:
        model: the classifier to attack; its weights, mode and gradients are left as they were
        clips: the forget set
        n_classes: number of classes
        parameters: tau, M, P and the rest
        seed: source of targets and starts
        first: place of the first clip, where these are part of a longer set
        cost: counted into, and told the progress, if given

    """
    cost = Cost() if cost is None else cost
    copies = parameters.copies
    generators, targets = [], []
    for position, label in enumerate(clips.labels):
        for copy in range(copies):
            generators.append(generator(seed, first + position, copy))
            targets.append(random_wrong_labels(label[None], n_classes, generators[-1]))
    aims = torch.cat(targets)
    repeated = clips.at([i for i in range(len(clips)) for _ in range(copies)]).relabelled(aims)
    device = next(model.parameters()).device
    moved = Replaced(repeated.waveforms_z)
    reached = torch.zeros(len(repeated), dtype=torch.bool)
    taken = torch.full((len(repeated),), parameters.steps)
    drawing = parameters.mode == "train"  # dropout: from one generator, batch after batch

    def attack(positions: list[int]) -> None:
        waveform_z, lengths = (t.to(device) for t in repeated.batch(positions))
        aim = aims[positions].to(device)
        answer = targeted_pgd(
            model, waveform_z, lengths, aim, parameters, [generators[i] for i in positions], cost,
            steps := torch.zeros(len(positions), dtype=torch.int64),
        )
        taken[positions] = steps
        with torch.no_grad(), frozen(model, train=False) if drawing else contextlib.nullcontext():
            reached[positions] = (model(answer, lengths).argmax(1) == aim).cpu()
        for row, position in zip(answer.cpu(), positions, strict=True):
            moved[position] = row[: moved.lengths[position]]

    batches = list(sorted_batches(
        repeated.lengths, parameters.batch_size, CHUNK_SAMPLES, alike=fast_mode.is_on()
    ))
    with seeded(seed, first), frozen(model, train=drawing):
        for positions in cost.phase(
            "adversarial copies", batches, None if drawing else attack,
            samples=padded(repeated.lengths),
            passes=lambda batch: (int(taken[batch].sum()), len(batch)),
        ):
            if drawing:
                attack(positions)
    return AdversarialSet(Clips(moved, aims, repeated.hashes, repeated.speakers), reached, copies)


def pgd_copies(
    model: torch.nn.Module,
    clips: Clips,
    cost: Cost,
    bound: float,
    norm: str = "linf",
    steps: int = 1,
    fraction: float = 1.0,
    *,
    targeted: bool = False,
    batch_size: int = 32,
    seed: int | None = None,
) -> Clips:
    """Return the clips, moved along the gradient of the cross-entropy of their labels.

    Padding is not touched, and nothing is clipped to the range of a waveform: after z-normalisation
    it has none. The model is in eval mode; its mode is given back.

    Args:
        model: its weights are left as they were
        clips: with the labels to move towards, or away from
        cost: counted into
        bound: see `projected_steps_`
        norm: ``linf`` or ``l2``
        steps: how many
        fraction: size of a step over the bound
        targeted: towards the labels, or away from them
        batch_size: clips moved at once
        seed: of a random start on the bound, one a clip and whatever its batch; None starts at
            the clip

    """
    device = next(model.parameters()).device
    moved, batches = Replaced(clips.waveforms_z), list(sorted_batches(clips.lengths, batch_size))
    with frozen(model):
        for positions in cost.batches("PGD copies", clips, batches, forward_backward=steps):
            waveform_z, lengths = (t.to(device) for t in clips.batch(positions))
            delta = torch.zeros_like(waveform_z)
            if seed is not None:
                starts = [
                    torch.randn(clips.lengths[p], generator=generator(seed, p)) for p in positions
                ]
                start = torch.nn.utils.rnn.pad_sequence(starts, batch_first=True).to(device)
                if norm == "linf":
                    delta = bound * start.sign()
                else:
                    start = torch.nn.functional.normalize(start, dim=1)
                    delta = bound * lengths[:, None].sqrt() * start
            projected_steps_(
                delta, model, waveform_z, lengths, clips.labels[positions].to(device),
                steps=steps, cost=cost, bound=bound, fraction=fraction, norm=norm,
                targeted=targeted,
            )
            for row, position in zip((waveform_z + delta).cpu(), positions, strict=True):
                moved[position] = row[: moved.lengths[position]]
    return Clips(moved, clips.labels, clips.hashes, clips.speakers)


def strongest_wrong(
    logits: Float[Tensor, "clips classes"], labels: Int[Tensor, " clips"]
) -> Int[Tensor, " clips"]:
    """Return the class with the largest logit among those that are not the label."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def signal_to_noise_db(
    waveform_z: Float[Tensor, " time"], perturbed: Float[Tensor, " time"]
) -> float:
    """Return 10 log10 of the power of a clip over that of its perturbation, in dB."""
    noise = (perturbed.double() - waveform_z.double()).square().mean()
    if noise == 0:
        return float("inf")
    return float(10 * torch.log10(waveform_z.double().square().mean() / noise))


@contextlib.contextmanager
def frozen(model: torch.nn.Module, *, train: bool = False) -> Iterator[None]:
    """Hold the weights out of the graph and set the mode; give both back.

    What follows from the weights alone (a weight norm) is computed once inside.
    """
    modes = [(module, module.training) for module in model.modules()]
    # transformers' convolutions, in training, ask for a gradient of their input for the sake of
    # checkpoints, which fails where the input has one already
    asking: list[Any] = [m for m in model.modules() if getattr(m, "_requires_grad", False) is True]
    model.train(train)
    for module in asking:
        module._requires_grad = False
    try:
        with only_trainable(model, ()), torch.nn.utils.parametrize.cached():
            yield
    finally:
        for module, flag in modes:
            module.training = flag
        for module in asking:
            module._requires_grad = True

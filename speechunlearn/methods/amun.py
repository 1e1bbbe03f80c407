"""AMUN: fine-tuning on each clip's nearest adversarial example, with the class the model gives it.

Source: Ebrahimpour-Boroojeny et al. 2025. The examples are where the model already
has that class, so that little of it must change but its confidence near the clips. The authors'
code trains on the clips with their true labels, too (``keep_forget``), and has the examples alone
as a form of its own, which is the default here. Its attack stops at the first step that leaves the
class, and goes on from there where its bound doubles; here it takes all steps, from the clip.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from speechunlearn.dataset import clips as clips_module
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import NotNegative, Positive
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, predict, true_label_loss
from speechunlearn.methods.pgd import pgd_copies, strongest_wrong
from speechunlearn.models.loop import Cost


@dataclass(frozen=True)
class Parameters(Descent):
    """An epoch is one pass over the examples, or over the retain set with them beside it.

    Args:
        epochs: passes (the authors: 10)
        bound: root mean square of the smallest perturbation that is tried, in units of the
            z-normalised waveform; the authors' code starts at 0.04 for an image, 3e-3 a pixel in
            its standard deviations
        doublings: so often the bound is doubled for the clips that keep their class
        steps: attack steps at each bound (the authors: 50)
        step_fraction: size of a step over the bound (the authors: 0.1)
        keep_forget: whether the clips themselves, with their true labels, are trained on beside
            their examples, as the authors do unless they ask for the examples alone
        attack_batch_size: clips attacked at once

    """

    epochs: int = 10
    bound: Positive[float] = 1e-3
    doublings: NotNegative[int] = 10
    steps: Positive[int] = 50
    step_fraction: Positive[float] = 0.1
    keep_forget: bool = False
    attack_batch_size: Positive[int] = 32


def run(
    model: Classifier, data: UnlearningData, parameters: Parameters, work: Work,
    retain: Clips | None = None,
) -> Outcome:
    """Minimise CE(f(x~_e), y~_e) (+ CE(f(x_e), y_e)) (+ CE(f(x_r), y_r)), each a mean."""
    examples, bounds = nearest(model, data.forget, parameters, work)
    sets = [examples] if retain is None else [retain, examples]
    if parameters.keep_forget:
        sets.append(data.forget)

    def loss(model: Classifier, batch: Batch) -> Tensor:
        pairs = zip(sets, (batch.positions, *batch.beside), strict=True)
        return torch.stack([true_label_loss(model, of, chosen) for of, chosen in pairs]).sum()

    history = descend(model, sets[0], loss, parameters, work, beside=sets[1:])
    return Outcome(model, {"history": history, "bounds": bounds})


def nearest(
    model: Classifier, clips: Clips, parameters: Parameters, cost: Cost
) -> tuple[Clips, list[float | None]]:
    """Return an adversarial example of each clip, labelled with its class, and its bound.

    Each clip is attacked anew under a bound that doubles until the model no longer gives its label,
    so the nearest is known but for a factor of two. One that keeps its class to the end is
    labelled with the strongest wrong class there, and has no bound.
    """
    waveforms_z = [waveform_z.clone() for waveform_z in clips.waveforms_z]
    labels = clips.labels.clone()
    bounds: list[float | None] = [None] * len(clips)
    batches = list(clips_module.sorted_batches(clips.lengths, parameters.attack_batch_size))
    for waiting in cost.search("nearest examples", batches, clips.lengths):
        for doubling in range(parameters.doublings + 1):
            bound = parameters.bound * 2**doubling
            there = pgd_copies(
                model, clips.at(waiting), cost, bound, "l2", parameters.steps,
                parameters.step_fraction, batch_size=parameters.attack_batch_size,
            )
            answers = predict(model, there, cost=cost)
            wrong = strongest_wrong(answers, there.labels)
            left = (answers.argmax(1) != there.labels).tolist()
            for i, position in enumerate(waiting):
                waveforms_z[position], labels[position] = there.waveforms_z[i], wrong[i]
                bounds[position] = bound if left[i] else None
            waiting = [position for position, out in zip(waiting, left, strict=True) if not out]
            if not waiting:
                break
    return Clips(waveforms_z, labels, clips.hashes, clips.speakers), bounds


METHOD = Method("amun", "AMUN", {"forget"}, Parameters, run)

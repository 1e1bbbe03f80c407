"""Time the attack beside its limit and beside two libraries, all in one run.

The limit is a bare loop of forward and input-gradient passes of the same model, with frozen
weights, over the same batch and as many passes: an attack of P steps cannot take less.

The libraries attack images, and are set up for waveforms like this:

- torchattacks clamps what it makes to [0, 1]. Here its model first maps [0, 1] to
  [-SPAN / 2, SPAN / 2], which holds every waveform with its perturbation, so the clamp never
  acts; tau and the step are divided by SPAN.
- The adversarial-robustness-toolbox clamps to ``clip_values``, which may be None.

Both are given a model with frozen weights, which is faster than their default. Neither knows of
padding: their model holds the lengths of the batch, and they perturb the padding too.

Other work on the machine slows one contender or another for a while. So the contenders take turns,
each round in another order, and what counts is the median over the rounds of the ratio within a
round. The exit status is 1 if the attack runs at less than 0.95 of the limit's speed, or slower
than a library: the whole 95 % interval of the median lies below 1.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn.dataset.audio import pad
from speechunlearn.methods.pgd import AttackParameters, targeted_pgd
from speechunlearn.models import classifier

SPAN = 64.0  # of the waveform that torchattacks sees as [0, 1]; a z-normalised one lies well within
TAU, FRACTION = 0.3, 0.25
CLASSES = 7
REQUIRED = 0.95


class Waveforms(torch.nn.Module):
    """The model as the libraries call it: with one batch of waveforms, whose lengths it knows."""

    def __init__(self, model: torch.nn.Module, lengths: Tensor, span: float | None = None) -> None:
        super().__init__()
        self.model, self.lengths, self.span = model, lengths, span

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x if self.span is None else (x - 0.5) * self.span, self.lengths)


def contenders(
    encoder: str, waveform_z: Tensor, lengths: Tensor, targets: Tensor, steps: int
) -> dict[str, Callable[[], object]]:
    """Return what is timed: each makes one batch of adversarial copies."""
    import torchattacks
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    model = classifier.build(encoder, [f"class {i}" for i in range(CLASSES)], 0).eval()
    thawed = classifier.build(encoder, [f"class {i}" for i in range(CLASSES)], 0).eval()
    model.requires_grad_(False)
    parameters = AttackParameters(
        tau=TAU, steps=steps, step_fraction=FRACTION, batch_size=len(targets)
    )

    def limit() -> None:
        for _ in range(steps):
            x = waveform_z.clone().requires_grad_(True)
            torch.autograd.grad(cross_entropy(model(x, lengths), targets, reduction="sum"), x)

    def attack() -> Tensor:
        generators = [torch.Generator().manual_seed(i) for i in range(len(targets))]
        # it freezes the weights itself
        return targeted_pgd(thawed, waveform_z, lengths, targets, parameters, generators)

    theirs = torchattacks.PGD(
        Waveforms(model, lengths, SPAN).eval(), eps=TAU / SPAN, alpha=FRACTION * TAU / SPAN,
        steps=steps, random_start=True,
    )
    theirs.set_mode_targeted_by_label(quiet=True)
    image = waveform_z / SPAN + 0.5
    assert 0 <= float(image.min()) - TAU / SPAN and float(image.max()) + TAU / SPAN <= 1

    toolbox = ProjectedGradientDescentPyTorch(
        PyTorchClassifier(
            Waveforms(model, lengths), torch.nn.CrossEntropyLoss(reduction="sum"),
            tuple(waveform_z.shape[1:]), CLASSES, clip_values=None,
            device_type="gpu" if waveform_z.is_cuda else "cpu",
        ),
        norm=np.inf, eps=TAU, eps_step=FRACTION * TAU, max_iter=steps, targeted=True,
        num_random_init=1, batch_size=len(targets), verbose=False,
    )
    # its last act is to classify what it made, for a line in its log: not timed
    one_hot = torch.eye(CLASSES)[targets.cpu()]
    clean = waveform_z.cpu()

    def of_toolbox() -> object:
        return toolbox._generate_batch(clean, one_hot, None, TAU, FRACTION * TAU)

    return {
        "limit": limit,
        "attack": attack,
        "torchattacks": lambda: theirs(image, targets),
        "toolbox": of_toolbox,
    }


def measure(
    functions: dict[str, Callable[[], object]], rounds: int, synchronise: Callable[[], None]
) -> dict[str, np.ndarray]:
    """Return the seconds of each contender in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for name in names:  # the first call allocates
        functions[name]()
    for turn in range(rounds):
        order = names[turn % len(names) :] + names[: turn % len(names)]
        for name in order if turn // len(names) % 2 == 0 else reversed(order):
            synchronise()
            start = time.perf_counter()
            functions[name]()
            synchronise()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def median_with_interval(ratios: np.ndarray) -> tuple[float, float, float]:
    """Return the median and its bootstrapped 95 % interval."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (4000, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="nano", help="nano, a local folder or a hub id")
    parser.add_argument("--clips", type=int, default=4, help="N, clips in the batch")
    parser.add_argument("--copies", type=int, default=2, help="M, copies a clip")
    parser.add_argument("--steps", type=int, default=50, help="P, steps of the attack")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of the longest clip")
    parser.add_argument("--rounds", type=int, default=16, help="turns of each contender")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    generator = torch.Generator().manual_seed(0)
    # unequal lengths, down to three quarters of the longest
    samples = np.linspace(0.75, 1, options.clips) * options.seconds * 16000
    clips = [torch.randn(int(n), generator=generator) for n in samples]
    waveform_z, lengths = pad([clip for clip in clips for _ in range(options.copies)])
    targets = torch.randint(CLASSES, (len(lengths),), generator=generator)
    batch = [tensor.to(options.device) for tensor in (waveform_z, lengths, targets)]
    on_gpu = options.device.startswith("cuda")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            functions = contenders(options.encoder, *batch, options.steps)
    except ImportError as error:
        print(f"{error.name} is missing: `make bench` installs it", file=sys.stderr)
        return 2
    seconds = measure(
        functions, options.rounds, torch.cuda.synchronize if on_gpu else lambda: None
    )

    print(
        f"{options.encoder}, {options.clips} clips x {options.copies} copies of up to "
        f"{options.seconds} s, {options.steps} steps, {options.rounds} rounds, "
        f"{options.threads} threads, torch {torch.__version__}, {options.device}\n"
    )
    print(f"{'':14}{'s a step':>10}   speed as a multiple of the limit's (95 % interval)")
    for name, values in seconds.items():
        ratio = median_with_interval(seconds["limit"] / values)
        print(
            f"{name:14}{np.median(values) / options.steps:10.4f}   "
            f"{ratio[0]:.3f} ({ratio[1]:.3f} to {ratio[2]:.3f})"
        )
    print("\nspeed of the attack as a multiple of")
    failures = []
    for name in ("limit", "torchattacks", "toolbox"):
        ratio, low, high = median_with_interval(seconds[name] / seconds["attack"])
        print(f"{name:14}{ratio:10.3f}   ({low:.3f} to {high:.3f})")
        if name == "limit" and ratio < REQUIRED:
            failures.append(f"the attack runs at {ratio:.3f} of the limit, not {REQUIRED}")
        if name != "limit" and high < 1:
            failures.append(f"the attack runs at {ratio:.3f} of the speed of {name}")
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

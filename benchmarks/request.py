"""Time a whole request to forget beside the same algorithm written with two libraries.

The request is Adv. + Ela. (`speechunlearn.methods.adv_ela`): the Fisher information of N clips, M
adversarial copies of each in P steps, then epochs over the copies with the elastic penalty. The
contenders, all on the same model, clips, wrong labels and numbers of everything:

- fast: this package, with ``fast=True``
- exact: this package as it is by default
- torchattacks: its PGD in batches of 32 clips in their order, padded to the longest of the batch,
  on a model whose weights require gradients, as torchattacks is used; the model is told the lengths
- toolbox: PGD of the adversarial-robustness-toolbox, in batches of 32, its default, on one numpy
  array, padded to the longest clip of all. An array has no lengths: the model is told none

Both libraries are followed by a plain loop: batches of 16 in random order, padded to the longest of
the batch, the penalty as a sum over the weights one by one, Adam. The copies that the toolbox made
are cut to the length of their clips first.

Other work on the machine slows one contender or another for a while. So the contenders take turns,
each round in another order, and what counts is the median over the rounds of the ratio within a
round. With few rounds the interval is what they span. Processor seconds, of all threads, leave out
the waiting, but not what two threads spend on waiting for each other.

With ``--out`` every turn is added to a table, from which the book's page on cost is made.

The exit status is 1 if the whole interval of a ratio lies below what is required (2 on a processor,
3 on a GPU), if a perturbation exceeds tau, or if fast and exact, in eval mode, answer differently.
"""

from __future__ import annotations

import argparse
import copy
import sys
import threading
import time
import unittest.mock
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.attack import SPAN, Waveforms, median_with_interval
from speechunlearn import corpora, provenance
from speechunlearn.dataset import clips as clips_module
from speechunlearn.dataset.audio import normalise, pad
from speechunlearn.dataset.clips import Clips
from speechunlearn.methods import METHODS
from speechunlearn.methods.adv_ela import Parameters
from speechunlearn.methods.base import UnlearningData
from speechunlearn.methods.pgd import adversarial_set
from speechunlearn.methods.ran_lab import wrong_labels
from speechunlearn.models import classifier
from speechunlearn.models.training import Recipe, predict, train

CLASSES = 7
MEDIAN_SECONDS, SPREAD = 1.9, 0.2  # of synthetic clips, log-normal: RAVDESS without its pauses
THEIR_BATCH = 32  # the toolbox's default
TOLERANCE = 1e-4  # largest difference of logits in eval mode, as a share of the largest logit


@dataclass
class Turn:
    """What one contender did in one round.

    Args:
        seconds: wall clock, of the whole request
        of_attack: wall clock, of the adversarial copies alone
        processor: seconds of all threads
        memory: most bytes above those before: resident, or the GPU's
        model: the unlearned classifier
        copies: the adversarial set, labelled with its targets

    """

    seconds: float = 0.0
    of_attack: float = 0.0
    processor: float = 0.0
    memory: int = 0
    model: classifier.Classifier | None = None
    copies: Clips | None = None


class Memory:
    """Watch the resident memory while a block runs; on a GPU, what torch has allocated there."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak, self.done = device, 0, threading.Event()

    def now(self) -> int:
        try:
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        except OSError:  # not Linux
            return 0

    def watch(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.now())

    def __enter__(self) -> Memory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            self.before = self.peak = self.now()
            self.thread = threading.Thread(target=self.watch, daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated()
        else:
            self.done.set()
            self.thread.join()


def synthetic(n: int) -> Clips:
    """Return noise of log-normal duration."""
    rng = np.random.default_rng(0)
    seconds = MEDIAN_SECONDS * np.exp(SPREAD * rng.standard_normal(n))
    noise = [rng.standard_normal(int(s * 16000)).astype(np.float32) for s in seconds]
    return Clips(
        [torch.from_numpy(normalise(x)) for x in noise], torch.arange(n) % CLASSES,
        [f"{i}" for i in range(n)], [f"{i % 10}" for i in range(n)],
    )  # fmt: skip


def recorded(corpus: str, root: str, n: int, top_db: float | None) -> Clips:
    """Return n clips of a corpus, drawn at random."""
    manifest = corpora.read_manifest(corpus, root or None)
    if len(manifest) < n:
        sys.exit(f"{corpus} has {len(manifest)} clips, --n asks for {n}")
    labels = sorted(manifest["label"].unique())
    chosen = np.random.default_rng(0).permutation(len(manifest))[:n]
    return clips_module.load(manifest.iloc[np.sort(chosen)], labels, top_db=top_db)


# ---- this package


def of_package(
    model: classifier.Classifier, clips: Clips, n_classes: int, parameters: Parameters, fast: bool
) -> Turn:
    """Run the request, with a clock in the attack."""
    turn = Turn()

    def attack(model, parameters, seed, cost):  # noqa: ANN001, ANN202
        start = time.perf_counter()
        made = adversarial_set(model, clips, n_classes, parameters, seed=seed, cost=cost)
        turn.of_attack, turn.copies = time.perf_counter() - start, made.clips
        return made

    data = UnlearningData(clips, n_classes, adversarial=attack)
    turn.model = METHODS["adv_ela"].unlearn(model, data, parameters, seed=0, fast=fast).model
    return turn


# ---- the libraries


Attack = Callable[[classifier.Classifier, list[Tensor], Tensor, Parameters], list[Tensor]]


def of_torchattacks(
    model: classifier.Classifier, waveforms_z: list[Tensor], targets: Tensor, parameters: Parameters
) -> list[Tensor]:
    """Make copies with torchattacks, which attacks what lies in [0, 1]: see attack.py."""
    import torchattacks

    device = next(model.parameters()).device
    made: list[Tensor] = []
    for start in range(0, len(waveforms_z), THEIR_BATCH):
        waveform_z, lengths = pad(waveforms_z[start : start + THEIR_BATCH])
        pgd = torchattacks.PGD(
            Waveforms(model, lengths.to(device), SPAN).eval(), eps=parameters.tau / SPAN,
            alpha=parameters.step_fraction * parameters.tau / SPAN, steps=parameters.steps,
        )  # fmt: skip
        pgd.set_mode_targeted_by_label(quiet=True)
        answer = pgd(waveform_z / SPAN + 0.5, targets[start : start + THEIR_BATCH])
        answer = ((answer - 0.5) * SPAN).cpu()
        made += [row[:n].clone() for row, n in zip(answer, lengths.tolist(), strict=True)]
    return made


def of_toolbox(
    model: classifier.Classifier, waveforms_z: list[Tensor], targets: Tensor, parameters: Parameters
) -> list[Tensor]:
    """Make copies with the adversarial-robustness-toolbox, from one array."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    class Padded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x, torch.full((len(x),), x.shape[1], device=x.device))

    waveform_z, lengths = pad(waveforms_z)
    n_classes = len(model.labels)
    estimator = PyTorchClassifier(
        Padded(), torch.nn.CrossEntropyLoss(), tuple(waveform_z.shape[1:]), n_classes,
        clip_values=None, device_type="cpu" if next(model.parameters()).is_cpu else "gpu",
    )  # fmt: skip
    pgd = ProjectedGradientDescentPyTorch(
        estimator, norm=np.inf, eps=parameters.tau,
        eps_step=parameters.step_fraction * parameters.tau, max_iter=parameters.steps,
        targeted=True, num_random_init=1, batch_size=THEIR_BATCH, verbose=False,
    )  # fmt: skip
    # its last act is to classify what it was given and what it made, for a line in its log: left
    # out, as it would weigh more in a run of few steps than in one of many
    with unittest.mock.patch(f"{type(pgd).__module__}.compute_success", return_value=0.0):
        answer = pgd.generate(waveform_z.numpy(), y=np.eye(n_classes)[targets.numpy()])
    return [torch.from_numpy(row[:n]) for row, n in zip(answer, lengths.tolist(), strict=True)]


def plain(
    model: classifier.Classifier, clips: Clips, n_classes: int, parameters: Parameters,
    attack: Attack
) -> Turn:
    """Run the algorithm as it would be written around a library."""
    turn = Turn()
    device = next(model.parameters()).device
    model = copy.deepcopy(model)
    wrong = wrong_labels(UnlearningData(clips, n_classes), 0).to(device)

    model.eval()
    fisher = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for position in range(len(clips)):
        waveform_z, lengths = clips.batch([position])
        model.zero_grad()
        logits = model(waveform_z.to(device), lengths.to(device))
        cross_entropy(logits, wrong[[position]]).backward()
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                fisher[name] += weight.grad**2 / len(clips)
    anchor = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    # the targets are those that this package draws
    nothing = Parameters(copies=parameters.copies, steps=1).attack
    targets = _targets(clips, n_classes, nothing.copies)
    repeated = [x for x in clips.waveforms_z for _ in range(parameters.copies)]
    start = time.perf_counter()
    made = attack(model, repeated, targets, parameters)
    turn.of_attack = time.perf_counter() - start
    turn.copies = Clips(
        made, targets, [h for h in clips.hashes for _ in range(parameters.copies)],
        [s for s in clips.speakers for _ in range(parameters.copies)],
    )  # fmt: skip

    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=parameters.learning_rate)
    forget: list[int] = []
    for _ in range(parameters.epochs):
        model.train(parameters.mode == "train")
        order = torch.randperm(len(made)).tolist()
        for first in range(0, len(order), parameters.batch_size):
            positions = order[first : first + parameters.batch_size]
            if not forget:
                forget = torch.randperm(len(clips)).tolist()
            chosen, forget = forget[: parameters.batch_size], forget[parameters.batch_size :]
            waveform_z, lengths = turn.copies.batch(positions)
            logits = model(waveform_z.to(device), lengths.to(device))
            held = cross_entropy(logits, targets[positions].to(device))
            waveform_z, lengths = clips.batch(chosen)
            logits = model(waveform_z.to(device), lengths.to(device))
            missed = cross_entropy(logits, wrong[chosen])
            penalty = torch.zeros((), device=device)
            for name, weight in model.named_parameters():
                penalty = penalty + (fisher[name] * (weight - anchor[name]) ** 2).sum()
            loss = parameters.lambda_mis * missed + parameters.lambda_adv * held
            loss = loss + parameters.lambda_ewc * penalty
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    turn.model = model.eval()
    return turn


def _targets(clips: Clips, n_classes: int, copies: int) -> Tensor:
    """Return the targets that `adversarial_set` draws: of a model that costs nothing."""

    class Nothing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(n_classes))

        def forward(self, waveform_z: Tensor, lengths: Tensor) -> Tensor:
            return waveform_z[:, :1] * self.weight

    short = Clips([torch.zeros(1)] * len(clips), clips.labels, clips.hashes, clips.speakers)
    parameters = Parameters(copies=copies, steps=1).attack
    return adversarial_set(Nothing(), short, n_classes, parameters, seed=0).clips.labels


# ---- the comparison


def largest_delta(turn: Turn, clips: Clips) -> float:
    """Return the largest change of a sample, computed exactly."""
    assert turn.copies is not None
    m = len(turn.copies) // len(clips)
    return max(
        float((moved.double() - clips.waveforms_z[i // m].double()).abs().max())
        for i, moved in enumerate(turn.copies.waveforms_z)
    )


def equal_in_eval_mode(
    model: classifier.Classifier, clips: Clips, n_classes: int, parameters: Parameters
) -> tuple[float, float, float]:
    """Compare fast and exact where nothing is drawn but targets and starts.

    Returns:
        share of samples of the copies that differ by more than 1e-6; largest difference of the
        unlearned models' logits on the forget set as a share of the largest logit; share of same
        answers there

    """
    values = {**vars(parameters), "mode": "eval", "steps": 2, "epochs": 1, "copies": 2}
    turns = [
        of_package(model, clips.at(range(min(8, len(clips)))), n_classes, Parameters(**values), q)
        for q in (False, True)
    ]
    exact, fast = (torch.cat(turn.copies.waveforms_z) for turn in turns if turn.copies)
    a, b = (predict(turn.model, clips) for turn in turns if turn.model)
    return (
        float(((exact - fast).abs() > 1e-6).double().mean()),
        float((a - b).abs().max() / a.abs().max()),
        float((a.argmax(1) == b.argmax(1)).double().mean()),
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", default="embedded", help="a corpus, csv, or synthetic")
    parser.add_argument("--root", default="", help="its folder, or the CSV file")
    parser.add_argument("--top-db", type=float, default=30.0, help="pauses at the ends are cut")
    parser.add_argument("--encoder", default="nano-pretrained", help="nano, a folder or a hub id")
    parser.add_argument("--n", type=int, default=100, help="N, clips to forget")
    parser.add_argument("--copies", type=int, default=20, help="M, copies a clip")
    parser.add_argument("--steps", type=int, default=50, help="P, steps of the attack")
    parser.add_argument("--epochs", type=int, default=15, help="epochs of unlearning")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--without", nargs="*", default=[], help="contenders to leave out")
    parser.add_argument("--out", type=Path, help="CSV that the turns are added to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    begun_at = provenance.commit()
    try:
        import art  # noqa: F401
        import torchattacks  # noqa: F401
    except ImportError as error:
        print(f"{error.name} is missing: `make bench` installs it", file=sys.stderr)
        return 2

    device = torch.device(options.device)
    if options.corpus == "synthetic":
        clips = synthetic(options.n)
        source = f"noise, log-normal around {MEDIAN_SECONDS} s with a spread of {SPREAD}"
    else:
        clips = recorded(options.corpus, options.root, options.n, options.top_db)
        source = f"{options.corpus}, pauses at the ends cut {options.top_db} dB below the loudest"
    seconds = np.array(clips.lengths) / 16000
    n_classes = max(CLASSES, int(clips.labels.max()) + 1)
    model = classifier.build(options.encoder, [f"class {i}" for i in range(n_classes)], 0)
    train(model, clips, Recipe(epochs=5, learning_rate=1e-3), seed=0)
    model.to(device).eval()
    parameters = Parameters(
        copies=options.copies, steps=options.steps, epochs=options.epochs,
        attack_batch_size=THEIR_BATCH,
    )

    def contenders(clips: Clips, parameters: Parameters) -> dict[str, Callable[[], Turn]]:
        given = (model, clips, n_classes, parameters)
        return {
            "fast": lambda: of_package(*given, fast=True),
            "exact": lambda: of_package(*given, fast=False),
            "torchattacks": lambda: plain(*given, of_torchattacks),
            "toolbox": lambda: plain(*given, of_toolbox),
        }

    print(
        f"N={options.n}, M={options.copies}, P={options.steps}, {options.epochs} epochs, "
        f"{options.rounds} rounds, {options.encoder}, {options.threads} threads, "
        f"torch {torch.__version__}, {options.device}\nclips: {source}; {seconds.mean():.2f} s on "
        f"average, {seconds.min():.2f} to {seconds.max():.2f} s\n",
        flush=True,
    )  # fmt: skip
    small = Parameters(copies=2, steps=2, epochs=1)
    names = [name for name in contenders(clips, small) if name not in options.without]
    for name in names:  # the first call allocates
        contenders(clips.at(range(min(4, len(clips)))), small)[name]()
    equal = equal_in_eval_mode(model, clips, n_classes, parameters)

    turns: dict[str, list[Turn]] = {name: [] for name in names}
    for number in range(options.rounds):
        order = names[number % len(names) :] + names[: number % len(names)]
        for name in order if number // len(names) % 2 == 0 else reversed(order):
            with Memory(device) as memory:
                start, used = time.perf_counter(), time.process_time()
                turn = contenders(clips, parameters)[name]()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                turn.seconds, turn.processor = (
                    time.perf_counter() - start, time.process_time() - used,
                )  # fmt: skip
            turn.memory = memory.peak - memory.before
            if turns[name]:  # results of the first round are enough
                turn.model = turn.copies = None
            turns[name].append(turn)
            print(f"  round {number + 1}: {name} {turn.seconds:.1f} s", file=sys.stderr, flush=True)

    if options.out is not None:
        about = {
            "corpus": options.corpus, "encoder": options.encoder, "n": options.n,
            "copies": options.copies, "steps": options.steps, "epochs": options.epochs,
            "mean_seconds": round(float(seconds.mean()), 3), "device": options.device,
            "threads": options.threads, "machine": provenance.describe(),
            "commit": begun_at, "lock": provenance.lock_hash(),
        }
        keep(turns, clips, parameters, about, options.out)
    return report(turns, clips, parameters, equal, 3.0 if device.type == "cuda" else 2.0)


def keep(
    turns: dict[str, list[Turn]], clips: Clips, parameters: Parameters, about: dict[str, object],
    file: Path,
) -> None:
    """Add a row a turn to a table; earlier turns of the same setting are replaced."""
    deltas = {name: largest_delta(of[0], clips) / parameters.tau for name, of in turns.items()}
    table = pd.DataFrame(
        [
            about | {
                "contender": name, "round": number, "seconds": round(turn.seconds, 3),
                "attack_seconds": round(turn.of_attack, 3),
                "processor_seconds": round(turn.processor, 3),
                "memory_mb": round(turn.memory / 2**20, 1), "largest_delta": deltas[name],
            }
            for name, of in turns.items() for number, turn in enumerate(of)
        ]
    )
    if file.is_file():
        setting = [c for c in about if c not in ("machine", "commit", "lock", "mean_seconds")]
        before = pd.read_csv(file)
        same = before[setting].eq(table[setting].iloc[0]).all(axis=1)
        table = pd.concat([before[~same], table])
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(file, index=False)


def report(
    turns: dict[str, list[Turn]], clips: Clips, parameters: Parameters,
    equal: tuple[float, float, float], required: float,
) -> int:  # fmt: skip
    """Print the tables; return the exit status."""
    firsts = {name: of[0] for name, of in turns.items()}
    reference = firsts["fast"].model
    assert reference is not None
    answers = predict(reference, clips).argmax(1)
    print(
        f"{'':14}{'s':>9}{'attack, s':>11}{'cpu s':>9}{'MiB':>7}{'|delta| / tau':>15}"
        f"{'reached':>9}{'agreement':>11}"
    )
    failures = []
    for name, of in turns.items():
        first = firsts[name]
        assert first.model is not None and first.copies is not None
        delta = largest_delta(first, clips)
        model = first.model
        heard = predict(model, clips).argmax(1)
        reached = predict(model, first.copies).argmax(1) == first.copies.labels
        print(
            f"{name:14}{np.median([t.seconds for t in of]):9.1f}"
            f"{np.median([t.of_attack for t in of]):11.1f}"
            f"{np.median([t.processor for t in of]):9.1f}"
            f"{max(t.memory for t in of) / 2**20:7.0f}{delta / parameters.tau:15.9f}"
            f"{float(reached.double().mean()):9.3f}"
            f"{float((heard == answers).double().mean()):11.3f}"
        )
        if name in ("fast", "exact") and delta > parameters.tau:
            failures.append(f"{name}: a sample moves by {delta}, more than {parameters.tau}")
    print(
        "reached: share of the copies that the unlearned model gives their target\n"
        "agreement: share of the forgotten clips that it answers as fast's does\n"
        f"fast and exact in eval mode: {equal[0]:.2e} of the copies' samples differ, logits by "
        f"{equal[1]:.1e} of the largest (at most {TOLERANCE}), same answers {equal[2]:.3f}\n"
    )
    if equal[1] > TOLERANCE:
        failures.append(f"logits of fast and exact differ by {equal[1]}, more than {TOLERANCE}")

    def ratios(name: str, of: Callable[[Turn], float]) -> np.ndarray:
        both = zip(turns[name], turns["fast"], strict=True)
        return np.array([of(theirs) / of(ours) for theirs, ours in both])

    print("speed of fast as a multiple of (95 % interval of the median)")
    for name in turns:
        if name == "fast":
            continue
        whole = median_with_interval(ratios(name, lambda t: t.seconds))
        print(f"{name:14}whole {whole[0]:6.2f} ({whole[1]:.2f} to {whole[2]:.2f})", end="")
        for title, of in (
            ("attack", lambda t: t.of_attack),
            ("the rest", lambda t: t.seconds - t.of_attack),
            ("cpu seconds", lambda t: t.processor),
        ):
            ratio, low, high = median_with_interval(ratios(name, of))
            print(f"   {title} {ratio:.2f} ({low:.2f} to {high:.2f})", end="")
        print()
        if name != "exact" and whole[2] < required:
            failures.append(f"{name}: {whole[0]:.2f} times as fast, not {required}")
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

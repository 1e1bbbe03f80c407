"""Which claims of the book hold for other encoders: the same requests on six architectures.

    python -m benchmarks.architectures --root CORPUS --work FOLDER
    python -m benchmarks.architectures --claims

Ten Arabic words. Of six models of an architecture each hears three of six disjoint forget sets, in
turn, so that every set has an original, which is unlearned, and three models that were retrained
without it: number m hears the sets m, m + 1 and m + 2. Methods have the hyperparameters that
were tuned on the leaderboards, for a small wav2vec 2.0: nothing is tuned for an architecture.
Finished models are kept below ``--work`` and finished work in the CSV: a run that was killed goes
on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    HubertConfig,
    HubertForSequenceClassification,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMForSequenceClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from benchmarks.summary import kept
from speechunlearn import methods, provenance
from speechunlearn.audit import membership, predictions
from speechunlearn.audit.report_card import Auditor
from speechunlearn.chapters.other_models import RESULTS, claims
from speechunlearn.dataset.clips import Clips
from speechunlearn.methods.base import UnlearningData
from speechunlearn.models import training
from speechunlearn.models.classifier import NANO, Classifier, build, gabor_filters_, seeded
from speechunlearn.models.training import Recipe
from speechunlearn.tool import checkpoints, defaults, inputs

#: the ten digits, which a training of seconds can learn
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
UNSEEN_SPEAKERS, SPARE, ALWAYS = 6, 120, 240
MODELS, HEARD, N_FORGET = 6, 3, 30
METHODS = ("ran_lab", "adv_ela", "finetune", "perturbed", "delete", "scrub", "neggrad")
#: what is on a card here
SCORES = ("forget_uar", "unseen_uar", "mia_loss", "average_gap", "loss_ks")
_SMALL = NANO | {
    "conv_dim": (128, 64, 64), "hidden_size": 64, "num_hidden_layers": 2,
    "intermediate_size": 192, "classifier_proj_size": 64,
}
_FROM_SCRATCH = Recipe(
    epochs=24, learning_rate=3e-3, batch_size=16, schedule="one_cycle", weight_decay=0.01,
    clip_gradient=1.0,
)
_OF_SPECTROGRAMS = replace(_FROM_SCRATCH, epochs=36)
#: in place of what `forget` takes: of its 2400 steps 60, at ten times the rate
REDUCED: dict[str, dict[str, Any]] = {"perturbed": {"steps": 60, "learning_rate": 1e-3}}


class Architecture(NamedTuple):
    """A network, and how it is trained.

    Attributes:
        kind: transformers' name of it
        weights: where its weights come from
        recipe: of its training

    """

    kind: str
    weights: str
    recipe: Recipe = _FROM_SCRATCH


ARCHITECTURES = {
    "wav2vec2": Architecture(
        "wav2vec 2.0", "nano-english", replace(_FROM_SCRATCH, epochs=12, learning_rate=1e-3)
    ),
    "ast": Architecture("AST", "random", _OF_SPECTROGRAMS),
    "whisper": Architecture("Whisper's encoder", "random", _OF_SPECTROGRAMS),
    "hubert": Architecture("HuBERT", "random, the filter bank of nano"),
    "wavlm": Architecture("WavLM", "random, the filter bank of nano"),
    "moonshine": Architecture(
        "Moonshine tiny", "pre-trained",
        Recipe(epochs=12, learning_rate=1e-3, encoder_rate=0.1, batch_size=16,
               schedule="one_cycle", weight_decay=0.01, clip_gradient=1.0),
    ),
}  # fmt: skip


def network(
    name: str, labels: Sequence[str], seed: int, encoder: str = "moonshine-tiny"
) -> Classifier:
    """Return a classifier of an architecture before it is trained.

    Args:
        name: one of `ARCHITECTURES`
        labels: class names
        seed: of the random weights
        encoder: name or folder of Moonshine's encoder with its weights

    """
    if name == "wav2vec2":
        return build("nano-english", labels, seed)
    if name == "moonshine":
        return build(encoder, labels, seed)
    numbered: dict[str, Any] = {
        "id2label": dict(enumerate(labels)), "label2id": {k: i for i, k in enumerate(labels)},
    }
    layers: dict[str, Any] = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 192,
    }
    model: Any
    with seeded(seed):
        if name == "ast":
            config = ASTConfig(
                **layers, **numbered, max_length=100, num_mel_bins=64, time_stride=8,
                frequency_stride=16, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
            )
            return checkpoints.FilterBankClassifier(
                ASTForAudioClassification(config), list(labels),
                ASTFeatureExtractor(max_length=100, num_mel_bins=64),
            )
        if name == "whisper":
            config = WhisperConfig(
                **numbered, d_model=64, encoder_layers=2, encoder_attention_heads=4,
                encoder_ffn_dim=192, max_source_positions=50, num_mel_bins=40, dropout=0.1,
                classifier_proj_size=64, vocab_size=20, pad_token_id=0, bos_token_id=0,
                eos_token_id=0, decoder_start_token_id=0,
            )
            return checkpoints.LogMelClassifier(
                WhisperForAudioClassification(config), list(labels),
                WhisperFeatureExtractor(feature_size=40, chunk_length=1),
            )
        of_waveforms: dict[str, Any] = {
            "hubert": (HubertConfig, HubertForSequenceClassification),
            "wavlm": (WavLMConfig, WavLMForSequenceClassification),
        }
        config_class, network_class = of_waveforms[name]
        model = network_class(config_class(**_SMALL, **numbered))
        first = model.get_submodule(f"{name}.feature_extractor.conv_layers.0.conv")
        gabor_filters_(first)
        return checkpoints.WaveformClassifier(
            model, list(labels), Wav2Vec2FeatureExtractor(return_attention_mask=True)
        )


class Corpus(NamedTuple):
    """Every clip, and who hears which.

    Attributes:
        clips: all of them
        about: a row a clip: label, speaker, hash, cluster, seconds
        parts: ``unseen``, ``spare`` (of speakers who are heard, of no model), ``always`` (of every
            model) and ``0`` to ``5``, the forget sets -> positions
        unit: what the waveforms were divided by

    """

    clips: Clips
    about: pd.DataFrame
    parts: dict[str, np.ndarray]
    unit: float

    def at(self, *parts: str) -> Clips:
        """Return the clips of some parts."""
        return self.clips.at(np.concatenate([self.parts[part] for part in parts]).tolist())


@cache
def corpus(root: Path, work: Path, *, normalise: bool) -> Corpus:
    """Read the clips, and cut them into parts.

    Args:
        root: folder of the corpus
        work: folder to write the list of clips to
        normalise: as the architecture wants it

    """
    paths = [path for word in WORDS for path in sorted((root / "dataset" / word).iterdir())]
    table = pd.DataFrame({
        "path": [str(path.relative_to(root)) for path in paths],
        "label": [path.parent.name for path in paths],
        "speaker": [path.name.split("_NO_")[0] for path in paths],
    })
    table.to_csv(work / "clips.csv", index=False)
    read = inputs.read(
        "forget", work / "clips.csv", WORDS, sampling_rate=16_000, normalise=normalise, root=root
    )
    unit = 1.0
    if not normalise:
        sets, unit = inputs.in_units({"forget": read})
        read = sets["forget"]
    generator = np.random.default_rng(0)
    speakers = generator.permutation(sorted(read.about["speaker"].unique()))
    unseen = read.about["speaker"].isin(speakers[:UNSEEN_SPEAKERS]).to_numpy()
    free = generator.permutation(np.flatnonzero(~unseen))
    parts = {"unseen": np.flatnonzero(unseen)}
    for name, size in {
        "spare": SPARE, "always": ALWAYS, **{str(s): N_FORGET for s in range(MODELS)},
    }.items():
        parts[name], free = free[:size], free[size:]
    return Corpus(read.clips, read.about, parts, unit)


def heard(model: int) -> list[str]:
    """Return the forget sets that a model hears."""
    return [str((model + step) % MODELS) for step in range(HEARD)]


def trained(name: str, of: Corpus, model: int, work: Path) -> Classifier:
    """Train a model, or take it where it is kept."""
    made = network(name, WORDS, seed=model)
    if isinstance(made, checkpoints.WaveformClassifier):
        made.unit = of.unit
    file = work / f"{name}-{model}.pt"
    if file.exists():
        made.load_state_dict(torch.load(file, weights_only=True))
        return made.eval()
    started = time.process_time()
    training.train(
        made, of.at("always", *heard(model)), ARCHITECTURES[name].recipe, seed=model
    )
    torch.save(made.state_dict(), file.with_suffix(".partial"))
    file.with_suffix(".partial").rename(file)
    print(f"{file.name}: {time.process_time() - started:.0f} s", flush=True)
    return made


#: part of the audit's table -> part of the corpus; what every model hears is the retain set
_SPLITS = {"retain": "always", "unseen": "unseen", "spare": "spare"}


def said(model: Classifier, of: Corpus, forget: str) -> pd.DataFrame:
    """Return the audit's table of a model."""
    parts = {split: of.at(part) for split, part in {"forget": forget, **_SPLITS}.items()}
    return _table(training.answers(model, parts), of, forget)


def said_by(name: str, of: Corpus, model: int, forget: str, work: Path) -> pd.DataFrame:
    """Return the audit's table of a trained model, whose answers to all clips are kept."""
    file = work / f"{name}-{model}.npz"
    if not file.exists():
        parts = {part: of.at(part) for part in of.parts if part in _HEARD_OF}
        np.savez(file, **training.answers(trained(name, of, model, work), parts))
    answers = np.load(file)
    logits = {split: answers[part] for split, part in {"forget": forget, **_SPLITS}.items()}
    return _table(logits, of, forget)


_HEARD_OF = (*_SPLITS.values(), *(str(s) for s in range(MODELS)))


def _table(logits: dict[str, np.ndarray], of: Corpus, forget: str) -> pd.DataFrame:
    hashes = {split: of.at(part).hashes for split, part in {"forget": forget, **_SPLITS}.items()}
    return predictions.table(logits, hashes, of.about, WORDS)


def scores(table: pd.DataFrame) -> dict[str, float]:
    """Return what a table says: losses, UARs, and the attack on the loss beside spare clips."""
    of = dict(iter(table.groupby("split")))

    def uar(part: str) -> float:
        right = of[part]["label"] == of[part]["prediction"]
        return float(right.groupby(of[part]["label"]).mean().mean())

    attack = membership.loss_membership_attack(of["forget"]["loss"], of["spare"]["loss"])
    return {
        "loss": float(of["forget"]["loss"].mean()), "spare_loss": float(of["spare"]["loss"].mean()),
        "uar": uar("forget"), "unseen_uar": uar("unseen"), "auc": membership.auc(attack),
    }


def unlearned(name: str, original: Classifier, of: Corpus, run: int, method: str) -> Classifier:
    """Unlearn a forget set, with the hyperparameters of the leaderboards."""
    forget, retain = of.at(str(run)), of.at("always", *heard(run)[1:])
    values = defaults.choose({"forget", "retain"}, method).values | REDUCED.get(method, {})
    data = UnlearningData(
        forget, len(WORDS), retain=retain, recipe=ARCHITECTURES[name].recipe,
        fresh=lambda seed: network(name, WORDS, seed),
    )
    parameters = defaults.parameters(method, values)
    return methods.get(method).unlearn(original, data, parameters, seed=run).model


def rows(
    name: str, run: int, root: Path, work: Path, asked: Sequence[str]
) -> Iterator[list[dict[str, Any]]]:
    """Yield what original, retrained and unlearned models of a forget set say.

    Args:
        name: of the architecture
        run: number of the forget set
        root: of the corpus
        work: folder of the models
        asked: ``original`` (with the retrained models) and methods

    """
    of = corpus(root, work, normalise=name not in ("ast", "whisper"))
    where = {
        "commit": provenance.commit(), "lock": provenance.lock_hash(),
        "machine": provenance.describe(),
    }
    original = trained(name, of, run, work)
    without = [m for m in range(MODELS) if str(run) not in heard(m)]
    tables = {m: said_by(name, of, m, str(run), work) for m in without}
    judged = {m: t[t["split"] != "spare"].reset_index(drop=True) for m, t in tables.items()}
    auditor = Auditor(list(judged.values()), n_labels=len(WORDS), chosen=SCORES)
    about = {"architecture": name, "run": run, "n_forget": N_FORGET, "seed": run}

    def judge(
        table: pd.DataFrame, method: str, auditor: Auditor = auditor,
        about: dict[str, Any] = about, **more: Any,
    ) -> dict[str, Any]:
        card = auditor.card(table[table["split"] != "spare"].reset_index(drop=True))
        distances = card.scores.set_index("score")["value"]
        return about | {"method": method, **scores(table)} | {
            "average_gap": distances["average_gap"], "loss_ks": distances["loss_ks"],
            "passed": card.passed, **more, **where,
        }

    if "original" in asked:
        first = [judge(said_by(name, of, run, str(run), work), "original")]
        for number, card in enumerate(auditor.cards_of_retrained()):
            distances = card.scores.set_index("score")["value"]
            first.append(about | {
                "method": f"retrained {number}", **scores(tables[without[number]]),
                "average_gap": distances["average_gap"], "loss_ks": distances["loss_ks"],
                "passed": card.passed, **where,
            })
        yield first
    for method in (name_of for name_of in asked if name_of != "original"):
        started = time.process_time()
        model = unlearned(name, original, of, run, method)
        seconds = round(time.process_time() - started, 1)
        yield [judge(said(model, of, str(run)), method, seconds=seconds)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, help="folder of Arabic Speech Commands")
    parser.add_argument("--work", type=Path, help="folder of the models")
    parser.add_argument("--only", nargs="+", choices=list(ARCHITECTURES), help="these alone")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--claims", action="store_true", help="print what carries over")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.claims:
        print(claims(kept(options.out)).to_string(index=False))
        return
    if options.root is None or options.work is None:
        parser.error("--root and --work are needed")
    options.work.mkdir(parents=True, exist_ok=True)
    for run, name in product(range(MODELS), options.only or ARCHITECTURES):
        before = kept(options.out)
        done = set() if before.empty else set(
            before.query("architecture == @name and run == @run")["method"]
        )
        asked = [method for method in ("original", *options.methods) if method not in done]
        if not asked:
            continue
        for made in rows(name, run, options.root, options.work, asked):
            partial = options.out.with_suffix(".partial")
            pd.concat([kept(options.out), pd.DataFrame(made)]).to_csv(
                partial, index=False, float_format="%.5g"
            )
            partial.replace(options.out)
            print(pd.DataFrame(made).iloc[:, :9].to_string(index=False, header=False), flush=True)


if __name__ == "__main__":
    main()

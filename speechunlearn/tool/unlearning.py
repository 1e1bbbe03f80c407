"""One deletion request on anyone's model: ``speechunlearn forget``."""

from __future__ import annotations

import datetime
import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn import __version__, methods, provenance
from speechunlearn.cache import Cache, code_hash, stack
from speechunlearn.dataset.clips import Clips, OnDisk
from speechunlearn.errors import CorpusError, ModelError, ParameterError, lack_is_told
from speechunlearn.methods import never_heard
from speechunlearn.methods.base import UnlearningData
from speechunlearn.methods.pgd import AdversarialSet, AttackParameters, adversarial_set
from speechunlearn.models import training
from speechunlearn.models.classifier import Classifier, seeded
from speechunlearn.models.loop import Cost, seldom
from speechunlearn.tool import checkpoints, defaults, evaluate, inputs, output_folder, reports
from speechunlearn.tool.checkpoints import WaveformClassifier
from speechunlearn.tool.inputs import ClipSet

#: adversarial copies are kept in pieces of at least so many: less is lost by a kill
_COPIES_A_PIECE, _COPIES = 128, "copies.safetensors"

#: weights of a model whose memory is given back at once, which takes time
_LARGE = 30_000_000

#: of ``report.json``; it changes with the names in it
FORMAT = 4

OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """A request that was carried out: whether the model forgot is what its verdict says.

    Args:
        out: folder of the unlearned checkpoint, the report and the model card
        report: see the file ``report.json`` there

    """

    out: Path
    report: dict[str, Any]

    @property
    def verdict(self) -> str:
        """In words: see `speechunlearn.tool.verdicts`."""
        return str(self.report["verdict"]["value"])

    def summary(self) -> str:
        """Return the report in a few lines, the verdict first."""
        return reports.summary(self.report)


@dataclass(frozen=True)
class Prepared:
    """A request that was checked: nothing in it is to be refused any more.

    Args:
        model: the original
        sets: the clips, by the name of their set
        notes: what a reader of the report should know of the clips

    """

    model: WaveformClassifier
    sets: dict[str, ClipSet]
    notes: list[str]

    def load(self, source: str | Path, what: str) -> WaveformClassifier:
        """Load another checkpoint that answers the same clips.

        Raises:
            ParameterError: its classes or waveforms are others than the model's

        """
        other = checkpoints.load(source)
        if other.labels != self.model.labels or other.frontend != self.model.frontend:
            raise ParameterError(
                f"{what}: {str(source)!r} has other classes or takes other waveforms than "
                f"{self.model.source!r}"
            )
        other.unit = self.model.unit
        return other.to(next(self.model.parameters()).device)

    def data(self, **more: Any) -> UnlearningData:
        """Return the clips as a method takes them, with what else it may see."""
        clips = {name: part.clips for name, part in self.sets.items()}
        return UnlearningData(
            clips["forget"], len(self.model.labels), retain=clips.get("retain"), fresh=self.fresh,
            **more,
        )

    def fresh(self, seed: int) -> Classifier:
        """Return a network of the same shape with random weights, from a seed."""
        from transformers import AutoModelForAudioClassification

        with seeded(seed):
            network = AutoModelForAudioClassification.from_config(self.model.network.config)
        random = type(self.model)(
            network, list(self.model.labels), self.model.extractor, self.model.unit
        )
        return random.to(next(self.model.parameters()).device)

    def unseen_loss(self) -> float | None:
        """Return the model's mean loss on unseen clips of other speakers than the forget set's.

        None where there are none. Clips whose speaker is not named are taken for others'.
        """
        if "unseen" not in self.sets:
            return None
        unseen, speakers = self.sets["unseen"].clips, set(self.sets["forget"].clips.speakers)
        others = [i for i, name in enumerate(unseen.speakers) if name not in speakers - {""}]
        if not others:
            return None
        clips = unseen.at(others)
        return cross_entropy(training.predict(self.model, clips), clips.labels).item()

    def references(
        self, sources: Sequence[str | Path], *apart: WaveformClassifier
    ) -> list[WaveformClassifier]:
        """Load the models that a result is judged by.

        Args:
            sources: of retrained models
            apart: other models of the request, which none of them may be

        Raises:
            ParameterError: one with the weights of the model itself, of another of the request or
                of another reference, however they are kept: its answers would count twice, or for
                a retrained model's

        """
        known = {checkpoints.fingerprint(one): one.source for one in (self.model, *apart)}
        judges = []
        for source in sources:
            judges.append(self.load(source, "references"))
            weights = checkpoints.fingerprint(judges[-1])
            if weights in known:
                raise ParameterError(
                    f"references: {str(source)!r} has the weights of {known[weights]!r}: a "
                    "reference is a model of its own, retrained without the forget clips"
                )
            known[weights] = str(source)
        return judges


@lack_is_told()
def forget(
    model: str | Path,
    forget: str | Path,
    out: str | Path,
    *,
    retain: str | Path | None = None,
    unseen: str | Path | None = None,
    references: Sequence[str | Path] = (),
    method: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    allow_outside: bool = False,
    fast: bool = False,
    whole_speakers: bool = False,
    earlier: Mapping[str, Mapping[str, Any]] | None = None,
    request_id: str = "",
    on_progress: OnProgress = lambda text: None,
) -> Done:
    """Make a model forget clips, and write the unlearned checkpoint with a report.

    The model is not touched. A call that was killed goes on where it was when it is made again,
    to the same weights; one that is finished returns its report.

    Args:
        model: folder or hub id of a transformers audio-classification checkpoint
        forget: CSV of the clips to forget: path, label, optionally speaker
        out: folder to write to; empty, or not there
        retain: CSV of clips the model was trained on and is to keep
        unseen: CSV of clips it was not trained on: what it keeps is scored on them, and an attack
            sets them beside the forgotten
        references: checkpoints retrained without the forget clips, which the result is judged by
        method: name; None takes the leaderboard's
        parameters: hyperparameters of the method in place of the recommended ones
        seed: of all randomness
        root: folder that paths in the CSVs are relative to and lie in; each CSV's own without it
        allow_outside: let paths lead out of the root
        fast: computed sooner, see `speechunlearn.models.fast_mode`: equal but for rounding and for
            the numbers that dropout draws
        whole_speakers: the clips are all that the model heard of their speakers: without them, it
            would do on them what it does on unseen speakers
        earlier: name of an earlier request -> its record, whose recordings stay forgotten
        request_id: what the request is called, on the report alone; without, it is called by the
            first digits of its hash
        on_progress: progress callback

    Returns:
        the folder and the report

    Raises:
        SpeechUnlearnError: anything in the request that can't be used, before work begins; or an
            output folder that can't be written any more

    """
    named = dict(parameters or {})
    out = output_folder.path("out", out)
    files = {"forget": forget, "retain": retain, "unseen": unseen}
    available = {"forget"} | ({"retain"} if retain is not None else set())
    choice = defaults.choose(available, method, given=named)
    hyperparameters = defaults.parameters(choice.method, choice.values | named)
    stops = defaults.stops(choice.method, named)
    check_seed(seed)
    output_folder.check_not_inside(out, output_folder.path("model", model))
    asked: dict[str, Any] = {
        "method": choice.method, "parameters": output_folder.plain(asdict(hyperparameters)),
        "stops": stops, "seed": seed, "fast": fast, "whole_speakers": whole_speakers,
    }

    def as_listed(sha256: str, lists: Mapping[str, str]) -> str:
        """Return a hash of the request as far as it can be told without its recordings."""
        return output_folder.digest(
            asked | {"model": sha256, "lists": lists, "references": len(references)}
        )

    try:
        prepared = prepare(model, files, root=root, allow_outside=allow_outside)
    except CorpusError:
        # once a request is done, its recordings may be deleted
        report = output_folder.finished(out)
        if report is None:
            raise
        lists = {
            name: inputs.listed(output_folder.path(name, file))
            for name, file in files.items() if file is not None
        }
        if report.get("as_listed") != as_listed(checkpoints.digest(model), lists):
            raise
        done = _done(out, report["request"])
        assert done is not None
        on_progress(f"already done: {out / output_folder.REPORT}")
        return done
    sha256 = prepared.model.origin.sha256
    listed = as_listed(sha256, {name: part.listed for name, part in prepared.sets.items()})
    hyperparameters = defaults.budgeted(
        choice.method, hyperparameters, named, len(prepared.sets["forget"].clips)
    )
    if "retain" in prepared.sets:
        _check_stays_forgotten(prepared.sets["retain"], earlier or {})
    by_level = stops or methods.get(choice.method).finds(hyperparameters)
    if whole_speakers:
        _check_whole_speakers(prepared)
        if not by_level:
            raise ParameterError(
                f"whole_speakers: method {choice.method!r}, as it is asked for, does not go by "
                "what a model loses on clips that it never heard"
            )
    judges = prepared.references(references)
    asked |= {
        "model": sha256,
        "clips": {
            # in whatever order they are listed
            name: sorted(part.about[["hash", "label"]].itertuples(index=False, name=None))
            for name, part in prepared.sets.items()
        },
        "references": [judge.origin.sha256 for judge in judges],
        "parameters": output_folder.plain(asdict(hyperparameters)),
    }
    request = output_folder.digest(asked)
    done = _done(out, request)
    if done is None:
        output_folder.check_free(out, resumes=True)
        output_folder.check_record(out, request)
    elif not (out / output_folder.UNFINISHED).exists():
        on_progress(f"already done: {out / output_folder.REPORT}")
        return done
    with output_folder.folder(out) as unfinished:
        done = _done(out, request)  # by another process meanwhile
        if done is None:
            about = {
                "request": request, "request_id": request_id or request[:12],
                "as_listed": listed, "seed": seed, "fast": fast,
                "method": {
                    "name": choice.method, "title": methods.get(choice.method).title,
                    "needs": sorted(methods.get(choice.method).needs),
                    "parameters": asdict(hyperparameters), "why": choice.why,
                },
            }
            written = _carried_out(
                prepared, hyperparameters, judges, asked, by_level, about, unfinished, on_progress
            )
            output_folder.publish(written, out, resumes=True)
            done = _done(out, request)
        output_folder.clear(unfinished)
    assert done is not None
    return done


def _done(out: Path, request: str) -> Done | None:
    """Return a request that is finished in a folder.

    Raises:
        OutputError: another one is, or one of another version, or the record is not its

    """
    report = output_folder.finished(out)
    if report is None:
        return None
    if report.get("request") != request:
        raise output_folder.OutputError(f"out: {str(out)!r} holds the result of another request")
    if report.get("format") != FORMAT:
        raise output_folder.OutputError(
            f"out: {str(out / output_folder.REPORT)!r} was written by another version: its "
            f"format is {report.get('format')!r}, not {FORMAT}"
        )
    return Done(out, output_folder.with_record(report, out))


def check_seed(seed: int) -> None:
    """Raise ParameterError where a seed is out of the range that every source of numbers takes."""
    if not 0 <= seed < 2**32:
        raise ParameterError(f"seed: {seed} is not from 0 to {2**32 - 1}")


def prepare(
    model: str | Path,
    files: Mapping[str, str | Path | None],
    *,
    root: str | Path | None = None,
    allow_outside: bool = False,
) -> Prepared:
    """Read and check a model and the clips of a request.

    Args:
        model: see `forget`
        files: name of the set -> CSV; None where a set is not given
        root: see `forget`
        allow_outside: see `forget`

    Raises:
        SpeechUnlearnError: whatever can't be used

    """
    for name, file in files.items():
        if file is not None:
            inputs.read_csv(output_folder.path(name, file))  # the cheap checks of all first
    original = checkpoints.load(model)
    frontend = original.frontend
    parts = {
        name: inputs.read(
            name, file, original.labels, sampling_rate=frontend.sampling_rate,
            normalise=frontend.do_normalize, root=root, allow_outside=allow_outside,
            progress=True,
        )
        for name, file in files.items() if file is not None
    }
    inputs.check_apart(parts)
    if not frontend.do_normalize:
        parts, original.unit = inputs.in_units(parts)
    notes = []
    for part in parts.values():
        if part.duplicates:
            notes.append(f"{part.name}: {part.duplicates} rows name a recording a second time")
        if part.beyond:
            notes.append(
                f"{part.name}: {len(part.beyond)} clips have samples beyond full scale (of a float "
                "file, or by resampling) and were given to the model as they are, as transformers "
                "does: are their units those of 16-bit integers?"
            )
        long = int((part.about["seconds"] > original.heard_seconds).sum())
        if long:
            notes.append(
                f"{part.name}: of {long} clips the model hears the first "
                f"{original.heard_seconds:g} s alone"
            )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    original = original.to(device)
    if original.n_parameters > _LARGE:
        provenance.give_back_large_blocks()
    for part in parts.values():
        _check_shortest(original, part)
    return Prepared(original, parts, notes)


def _check_shortest(model: WaveformClassifier, part: ClipSet) -> None:
    """Refuse a clip that is shorter than what the model has an answer to, asked or trained."""
    shortest = int(np.argmin(part.clips.lengths))
    device = next(model.parameters()).device
    batch = tuple(tensor.to(device) for tensor in part.clips.batch([shortest]))
    try:
        for mode in (True, False):
            # a batch norm counts what it sees in training: it counts in a copy
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
            with seeded(0), torch.no_grad():
                torch.func.functional_call(model.train(mode), buffers, batch)
    except ModelError as error:
        path = part.about["path"].iloc[shortest]
        raise CorpusError(f"{part.file}: {path!r} is too short: {error}") from error
    finally:
        model.eval()


def _check_stays_forgotten(retain: ClipSet, earlier: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse clips to keep that an earlier request was about: they would be learnt again."""
    for request, record in earlier.items():
        forgotten = {clip["hash"] for clip in record["forgotten"]}
        for heard, path in zip(retain.about["hash"], retain.about["path"], strict=True):
            if salted(heard, record["salt"]) in forgotten:
                raise ParameterError(
                    f"{retain.file}: {path!r} is to stay forgotten, as request {request!r} asks"
                )


def _check_whole_speakers(prepared: Prepared) -> None:
    """Refuse whole speakers of whom other clips are kept, or beside whom no other one is unseen."""
    for name, paths in inputs.of_same_speakers(prepared.sets).items():
        if paths:
            raise ParameterError(
                f"whole_speakers: {prepared.sets[name].file} has another clip of a speaker whose "
                f"clips are all to be forgotten: {paths[0]!r}"
            )
        if paths is None:
            raise ParameterError(
                "whole_speakers: the CSVs of the forget and the other clips need a column speaker"
            )
    if "unseen" not in prepared.sets:
        raise ParameterError(
            "whole_speakers: it needs unseen clips, of other speakers: what the model loses on "
            "them is what it would lose on speakers that it never heard"
        )


def salted(content_hash: str, salt: str) -> str:
    """Return what a record holds in place of a recording's hash: only with it can it be looked up.

    Args:
        content_hash: of `speechunlearn.corpora.base.content_hash`
        salt: of the record, another for each

    """
    return hashlib.sha256(f"{salt}{content_hash}".encode()).hexdigest()


def _carried_out(
    prepared: Prepared,
    parameters: Any,
    judges: Sequence[WaveformClassifier],
    asked: dict[str, Any],
    by_level: bool,
    about: Mapping[str, Any],
    unfinished: Path,
    on_progress: OnProgress,
) -> Path:
    """Do the work, in pieces that a kill leaves whole; return the folder of what is to publish.

    Args:
        prepared: model and clips
        parameters: of the method
        judges: retrained models
        asked: what the result is made from
        by_level: whether what a model loses on unheard clips says how far the method goes
        about: of the request, for its report
        unfinished: folder to work in
        on_progress: progress callback

    """
    method, cache = methods.get(asked["method"]), Cache(unfinished)
    specification = asked | {
        "order": [list(part.about["hash"]) for part in prepared.sets.values()],
        "code": code_hash("speechunlearn.tool.unlearning", method.run.__module__),
        "stack": stack(),
        "computing": provenance.computing(),
    }

    def unlearn(folder: Path, resume: Path) -> None:
        level = None
        unseen_loss = prepared.unseen_loss() if by_level else None
        if asked["whole_speakers"]:
            level = unseen_loss
        elif asked["stops"]:
            clips = prepared.sets["forget"].clips
            level = never_heard.estimate(
                prepared.model, clips, clips.labels, Cost(), unseen_loss
            ).level
        data = prepared.data(
            adversarial=_in_pieces(cache, prepared, specification, on_progress),
            resume=resume, level=level, unseen_loss=unseen_loss,
        )

        def progress(name: str, done: int, total: int, loss: float) -> None:
            on_progress(
                f"{method.title}: {name} {done} of {total}" + f", loss {loss:.4g}" * (loss == loss)
            )

        on_progress(f"{method.title}: {len(data.forget)} clips")
        with provenance.measured() as usage:
            outcome = method.unlearn(
                prepared.model, data, parameters, seed=asked["seed"], progress=seldom(progress),
                fast=asked["fast"],
            )
        assert isinstance(outcome.model, WaveformClassifier)
        checkpoints.save(outcome.model, folder)
        cost = {
            "seconds": usage.seconds + outcome.cost.kept_seconds,
            "peak_memory_mb": usage.peak_memory_mb,
            "forward": outcome.cost.forward, "forward_backward": outcome.cost.forward_backward,
        }
        went_by = {"never_heard": level, "unseen_loss": unseen_loss}
        details = outcome.details | {k: v for k, v in went_by.items() if v is not None}
        output_folder.write_json(folder / "outcome.json", {"cost": cost, "details": details})

    unlearned = cache.find_or_make("unlearned", specification, unlearn)
    shutil.rmtree(unfinished / "adversarial", ignore_errors=True)  # no more use of them
    written = output_folder.anew(unfinished)
    for path in unlearned.iterdir():
        if path.name not in ("outcome.json", "artefact.json"):
            shutil.copyfile(path, written / path.name)
    on_progress("asking the original and the unlearned model about every clip")
    # what was written is judged, not what is in memory
    after = prepared.load(written, "unlearned")
    outcome = json.loads((unlearned / "outcome.json").read_text())
    report = described(prepared) | outcome | about | assessed(
        {"before": prepared.model, "after": after}, prepared.sets, judges, seed=asked["seed"]
    )
    retained = prepared.sets.get("retain")
    report |= {
        "kind": "forget",
        "notes": [
            *dearer_than_retraining(outcome["cost"], len(retained.clips) if retained else 0),
            *prepared.notes, *ended(outcome["details"], parameters), *evaluate.doubts(report),
        ],
        "result": {
            path.name: output_folder.sha256(path) for path in sorted(written.glob("*.safetensors"))
        },
        "on_disk": [
            f"the original model, which knows the clips: {prepared.model.source}",
            "the recordings and the lists that name them, and their backups",
            "beside the folder of the result, the record of the request: paths and labels of its "
            "recordings, and their salted hashes; and this page, which lists them: git and "
            "huggingface_hub leave it out where the folder is published",
        ],
    }
    reports.write(report, written, reports.card_of(prepared.model.source))
    output_folder.write_report(report, written)
    return written


def dearer_than_retraining(cost: Mapping[str, Any], retained: int) -> list[str]:
    """Return a note where training from the start on the retained clips would have been cheaper.

    A clip that goes forward and backward costs about as much as three that go forward alone.

    Args:
        cost: ``forward_backward`` and ``forward``, in clips
        retained: clips that are at hand; 0 where they are not

    """
    epochs, spent = training.Recipe.epochs, cost["forward_backward"] + cost["forward"] / 3
    if not 0 < epochs * retained <= spent:
        return []
    return [
        f"retraining would have been the answer: {epochs} epochs on the {retained} retained "
        f"clips cost {epochs * retained / spent:.0%} of what unlearning took, and leave nothing to "
        "be shown"
    ]


def ended(details: Mapping[str, Any], parameters: Any) -> list[str]:
    """Return how a method ended that finds its end on the clips."""
    sentences = []
    level = details.get("never_heard")
    if level is not None:
        unseen = details.get("unseen_loss")
        told = "copies at other speeds" + (" and the unseen clips" if unseen is not None else "")
        sentences.append(
            f"a model that never heard these clips would lose about {level:.2g} nats on each, as "
            + ("on unseen speakers" if level == unseen else f"{told} tell")
        )
    left = details.get("left")
    if left is not None and parameters.until:
        reached = "reached" if left <= parameters.until else "NOT reached"
        sentences.append(
            f"the answers that the clips were to be given were {reached} after {details['steps']} "
            f"of at most {parameters.steps} steps: {left:.0%} of the distance is left"
        )
    elif level is not None and len(details.get("history", ())) >= parameters.epochs:
        sentences.append(
            f"whether that was reached is not known: all {parameters.epochs} epochs were run"
        )
    return sentences


def described(prepared: Prepared) -> dict[str, Any]:
    """Return what a report says of the model, the clips, and where it was made."""
    config = prepared.model.network.config
    salt = secrets.token_hex(16)
    forget = prepared.sets["forget"].about[["path", "label", "speaker", "hash"]].to_dict("records")
    return {
        "format": FORMAT,
        "model": {
            "source": prepared.model.source, "sha256": prepared.model.origin.sha256,
            "revision": prepared.model.origin.revision,
            "type": config.model_type, "weights": prepared.model.n_parameters,
            "labels": list(prepared.model.labels),
        },
        "inputs": {
            name: {
                "file": str(part.file), "sha256": part.sha256, "listed": part.listed,
                "clips": len(part.clips),
                "seconds": float(part.about["seconds"].sum()),
                "speakers": int(part.about["speaker"].nunique()) if part.has_speakers else None,
            }
            for name, part in prepared.sets.items()
        },
        "salt": salt,
        "forgotten": [clip | {"hash": salted(clip["hash"], salt)} for clip in forget],
        "same_speakers": inputs.of_same_speakers(prepared.sets),
        "machine": provenance.describe(), "version": __version__, "commit": provenance.commit(),
        "lock": provenance.lock_hash(),
        "stack": stack(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def assessed(
    judged: Mapping[str, WaveformClassifier],
    parts: Mapping[str, ClipSet],
    judges: Sequence[WaveformClassifier],
    *,
    seed: int,
) -> dict[str, Any]:
    """Return scores, attacks and report cards of models, the verdict, and what can't be assessed.

    Args:
        judged: when -> model, in the order of the report; the last gets the verdict, and of two
            the first is the original
        parts: the clips
        judges: models retrained without the forget clips
        seed: of the bootstrap and the attacks' folds

    """
    tables = {when: evaluate.table(model, parts) for when, model in judged.items()}
    references = [evaluate.table(model, parts) for model in judges]
    n_labels = len(next(iter(judged.values())).labels)
    results = {
        "scores": {when: evaluate.scores(table, n_labels) for when, table in tables.items()},
        "membership": {when: evaluate.attack(t, seed=seed) for when, t in tables.items()},
        "cards": {
            when: evaluate.card(table, references, n_labels, seed=seed)
            for when, table in tables.items()
        },
        "references": len(judges),
        "not_assessed": evaluate.missing(next(iter(tables.values())), parts, len(judges)),
    }
    return results | evaluate.verdict(tables, references, results, n_labels, seed=seed)


def _in_pieces(
    cache: Cache, prepared: Prepared, specification: Mapping[str, Any], on_progress: OnProgress
) -> Callable[[Classifier, AttackParameters, int, Cost], AdversarialSet]:
    """Return what makes adversarial copies piece by piece, each kept as it is finished."""
    forget = prepared.sets["forget"].clips

    def make(
        model: Classifier, parameters: AttackParameters, seed: int, cost: Cost
    ) -> AdversarialSet:
        step = max(1, -(-_COPIES_A_PIECE // parameters.copies))
        labels, reached = [], []

        def piece(first: int) -> Path:
            """Return the file of the copies of the clips from the first on."""
            part = forget.at(range(first, min(first + step, len(forget))))
            of_piece = {
                "model": specification["model"], "clips": part.hashes, "first": first,
                "labels": part.labels.tolist(), "attack": asdict(parameters), "seed": seed,
                "fast": specification["fast"],
                "code": code_hash("speechunlearn.methods.pgd"), "stack": stack(),
                "computing": specification["computing"],
            }
            kept = cache.find("adversarial", of_piece) is not None

            def attack(folder: Path, resume: Path) -> None:
                counted = Cost()
                with provenance.measured() as usage:
                    copies = adversarial_set(
                        model, part, len(prepared.model.labels), parameters, seed=seed,
                        first=first, cost=counted,
                    )
                tensors = {"labels": copies.clips.labels, "reached": copies.reached}
                for i, copy in enumerate(copies.clips.waveforms_z):
                    # what was added to the clip, which is no speech
                    added = copy - part.waveforms_z[i // parameters.copies]
                    tensors[f"{first * parameters.copies + i}"] = added
                spent = json.dumps(asdict(counted) | {"seconds": usage.seconds})
                save_file(tensors, folder / _COPIES, {"cost": spent})

            path = cache.find_or_make("adversarial", of_piece, attack) / _COPIES
            with safe_open(path, framework="pt") as file:
                labels.append(file.get_tensor("labels"))
                reached.append(file.get_tensor("reached"))
                spent = json.loads(file.metadata()["cost"])
            cost.forward += spent["forward"]
            cost.forward_backward += spent["forward_backward"]
            cost.kept_seconds += spent["seconds"] if kept else 0.0
            done = first + len(part)
            on_progress(f"adversarial copies: {done} of {len(forget)} clips")
            return path

        files = [piece(first) for first in range(0, len(forget), step)]
        each = [i for i in range(len(forget)) for _ in range(parameters.copies)]
        copies = Clips(
            _Copies(forget, each, [files[i // step] for i in each]), torch.cat(labels),
            [forget.hashes[i] for i in each], [forget.speakers[i] for i in each],
        )
        return AdversarialSet(copies, torch.cat(reached), parameters.copies)

    return make


class _Copies(OnDisk):
    """Adversarial copies: what was added to a clip is read from its piece when it is asked for.

    Args:
        clips: of which they are, and which are in memory
        sources: clip of each copy
        files: piece of each copy

    """

    def __init__(self, clips: Clips, sources: Sequence[int], files: Sequence[Path]) -> None:
        lengths = clips.lengths
        super().__init__([lengths[i] for i in sources])
        self._clips, self._sources, self._files = clips, sources, files

    def read(self, position: int) -> Float[Tensor, " time"]:
        """See `OnDisk`."""
        with safe_open(self._files[position], framework="pt") as file:
            added = file.get_tensor(str(position))
        return self._clips.waveforms_z[self._sources[position]] + added

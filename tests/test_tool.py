"""One deletion request on anyone's checkpoint: what is written, what is refused, what is said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint import KINDS, LABELS, clips, write
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from speechunlearn.audit import membership
from speechunlearn.audit.membership import Scores
from speechunlearn.cache import Cache
from speechunlearn.corpora.base import decode
from speechunlearn.dataset import audio
from speechunlearn.errors import CorpusError, ModelError, ParameterError
from speechunlearn.methods.pgd import AttackParameters, adversarial_set
from speechunlearn.models import fast_mode
from speechunlearn.models.loop import Cost
from speechunlearn.tool import audit, checkpoints, forget, inputs, output_folder, unlearning

FAST = {"epochs": 3, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint and three sets of clips."""
    folder = tmp_path_factory.mktemp("desk")
    write(folder / "model")
    for seed, (name, n) in enumerate((("forget", 6), ("retain", 9), ("unseen", 9))):
        clips(folder, name, n, seed)
    return folder


def _transformers_logits(folder: Path, paths: list[Path]) -> torch.Tensor:
    """What transformers itself says of clips, one by one."""
    network = AutoModelForAudioClassification.from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    rows = []
    for path in paths:
        waveform, _ = decode(path)
        given = extractor(waveform, sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            rows.append(network(**given).logits[0])
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_answers_as_transformers_does(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "model", kind)
    file = clips(tmp_path, "forget", 5, 0)
    prepared = _prepared(tmp_path / "model", file)
    expected = _transformers_logits(
        tmp_path / "model", [tmp_path / path for path in prepared.sets["forget"].about["path"]]
    )
    assert expected.std(dim=0).max() > 1e-3  # the clips' answers differ at all
    table = _answers(prepared)
    assert (table - expected).abs().max() < 1e-4 * expected.abs().max()


def _prepared(model: Path, file: Path):  # noqa: ANN202
    from speechunlearn.tool.unlearning import prepare

    return prepare(model, {"forget": file})


def _answers(prepared) -> torch.Tensor:  # noqa: ANN001
    from speechunlearn.models.training import predict

    batch_size = 1 if prepared.model.answers_alone else 3
    return predict(prepared.model, prepared.sets["forget"].clips, batch_size=batch_size)


@pytest.mark.parametrize("kind", KINDS)
def test_the_attack_reaches_the_waveform(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "model", kind)
    prepared = _prepared(tmp_path / "model", clips(tmp_path, "forget", 4, 0))
    part = prepared.sets["forget"].clips
    parameters = AttackParameters(tau=0.3, copies=2, steps=8)
    found = adversarial_set(prepared.model, part, len(LABELS), parameters, seed=0)
    for copy, source in enumerate([i for i in range(4) for _ in range(2)]):
        delta = found.clips.waveforms_z[copy].double() - part.waveforms_z[source].double()
        assert 0 < delta.abs().max() <= 0.3
    repeated = part.at([i for i in range(4) for _ in range(2)]).relabelled(found.clips.labels)
    assert _target_loss(prepared.model, found.clips) < _target_loss(prepared.model, repeated)


@pytest.mark.parametrize("kind", KINDS)
def test_the_faster_computation_answers_alike(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "model", kind)
    prepared = _prepared(tmp_path / "model", clips(tmp_path, "forget", 5, 0))
    slow = _answers(prepared)
    with fast_mode.fast(prepared.model):
        fast = _answers(prepared)
    assert (fast - slow).abs().max() < 1e-5 * slow.abs().max()


def _target_loss(model, clips) -> float:  # noqa: ANN001
    from torch.nn.functional import cross_entropy

    from speechunlearn.models.training import predict

    return float(cross_entropy(predict(model, clips, batch_size=1), clips.labels))


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "ast", "whisper", "moonshine"])
@pytest.mark.parametrize("method", ["perturbed", "adv_ela"])
def test_what_is_written_loads_unchanged(tmp_path: Path, kind: str, method: str) -> None:
    write(tmp_path / "model", kind)
    file = clips(tmp_path, "forget", 4, 0)
    own = FAST | ({"copies": 2, "steps": 2} if method == "adv_ela" else {})
    held = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    done = forget(
        tmp_path / "model", file, tmp_path / "out", method=method, parameters=own, seed=3
    )
    network = AutoModelForAudioClassification.from_pretrained(tmp_path / "out")
    assert [network.config.id2label[i] for i in range(3)] == list(LABELS)
    for name in ("config.json", "preprocessor_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == held[name]
    assert {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()} == held
    original = AutoModelForAudioClassification.from_pretrained(tmp_path / "model")
    moved = [
        name for name, weight in network.state_dict().items()
        if not torch.equal(weight, original.state_dict()[name])
    ]
    assert moved
    # the report speaks of what was written
    paths = [tmp_path / clip["path"] for clip in done.report["forgotten"]]
    right = _transformers_logits(tmp_path / "out", paths).argmax(1).tolist()
    labels = [clip["label"] for clip in done.report["forgotten"]]
    share = np.mean([LABELS[k] == label for k, label in zip(right, labels, strict=True)])
    assert done.report["scores"]["after"]["forget"]["accuracy"] == pytest.approx(share)


def test_the_report_holds_what_was_asked_and_found(desk: Path, tmp_path: Path) -> None:
    done = forget(
        desk / "model", desk / "forget.csv", tmp_path / "out", retain=desk / "retain.csv",
        unseen=desk / "unseen.csv", method="ran_lab", parameters=FAST, seed=5,
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    record = tmp_path / "out.record.json"
    assert report | json.loads(record.read_text()) == done.report
    assert report["method"]["parameters"] == FAST | {"batch_size": 16, "mode": "train"}
    assert report["seed"] == 5 and report["kind"] == "forget"
    assert report["model"]["sha256"] == checkpoints.digest(desk / "model")
    assert {name: part["clips"] for name, part in report["inputs"].items()} == {
        "forget": 6, "retain": 9, "unseen": 9
    }
    assert report["inputs"]["retain"]["sha256"] == output_folder.sha256(desk / "retain.csv")
    assert report["cost"]["forward_backward"] == 3 * 6
    for name, digest in report["outputs"].items():
        assert output_folder.sha256(tmp_path / "out" / name) == digest
    assert set(report["outputs"]) == {
        path.name for path in (tmp_path / "out").iterdir()
    } - {"report.json"}
    # the attack is the one of the audit, on the same losses
    from speechunlearn.tool import evaluate
    from speechunlearn.tool.unlearning import prepare

    files = {"forget": desk / "forget.csv", "unseen": desk / "unseen.csv"}
    prepared = prepare(tmp_path / "out", files)
    table = evaluate.table(prepared.model, prepared.sets)
    losses = {split: -part["loss"].to_numpy() for split, part in table.groupby("split")}
    auc = membership.auc(Scores(losses["forget"], losses["unseen"]))
    assert report["membership"]["after"]["auc"]["value"] == pytest.approx(auc)
    assert report["cards"] == {"before": None, "after": None}
    assert "retrained" in " ".join(gap["why"] for gap in report["not_assessed"])
    assert "report.html" in report["outputs"] and "README.md" in report["outputs"]
    assert "## Unlearning" in (tmp_path / "out" / "README.md").read_text()


def test_references_give_a_card_and_absent_sets_are_named(desk: Path, tmp_path: Path) -> None:
    others = [write(tmp_path / f"other {i}", seed=i) for i in (1, 2, 3)]
    with_all = audit(
        desk / "model", desk / "forget.csv", unseen=desk / "unseen.csv",
        retain=desk / "retain.csv", references=others,
    ).report
    named = {row["score"] for row in with_all["cards"]["model"]["scores"]}
    assert {"forget_uar", "retain_uar", "unseen_uar", "mia_svc", "average_gap"} <= named
    without = audit(
        desk / "model", desk / "forget.csv", unseen=desk / "unseen.csv", references=others
    ).report
    fewer = {row["score"] for row in without["cards"]["model"]["scores"]}
    assert named - fewer == {"retain_uar", "mia_svc", "average_gap", "utility_distance"}
    alone = audit(desk / "model", desk / "forget.csv", references=others).report
    assert alone["cards"]["model"] is None and alone["membership"]["model"] is None
    said = [gap["what"] for gap in alone["not_assessed"]]
    assert len(with_all["not_assessed"]) == 1  # likeness to the originals
    assert len(said) == 5 and any("attacker can tell" in what for what in said)


def test_a_model_among_its_references_passes_and_another_does_not(tmp_path: Path) -> None:
    """Models next to each other are alike: their own kind passes, another one fails."""
    from safetensors.torch import save_file

    files = {name: clips(tmp_path, name, 60, i) for i, name in enumerate(("forget", "unseen"))}
    weights, alike = load_file(write(tmp_path / "a") / "model.safetensors"), []
    for number in range(1, 5):
        alike.append(shutil.copytree(tmp_path / "a", tmp_path / f"a{number}"))
        nudged = {name: weight + 1e-6 * number for name, weight in weights.items()}
        save_file(nudged, alike[-1] / "model.safetensors", {"format": "pt"})
    given = {"forget": files["forget"], "unseen": files["unseen"], "references": alike}
    assert audit(tmp_path / "a", **given).report["cards"]["model"]["passed"]
    other = audit(write(tmp_path / "b", seed=9), **given).report["cards"]["model"]
    assert not other["passed"]


@pytest.mark.parametrize("method", ["perturbed", "adv_ela"])
def test_quick_is_the_same_method(desk: Path, tmp_path: Path, method: str) -> None:
    """In eval mode nothing is drawn: the weights agree up to rounding."""

    own = {"epochs": 2, "learning_rate": 1e-4, "mode": "eval"}
    own |= {"copies": 2, "steps": 2} if method == "adv_ela" else {}
    weights = {}
    for fast in (False, True):
        out = tmp_path / str(fast)
        done = forget(
            desk / "model", desk / "forget.csv", out, method=method, parameters=own, fast=fast
        )
        assert done.report["fast"] is fast
        weights[fast] = load_file(out / "model.safetensors")
    before = load_file(desk / "model" / "model.safetensors")
    for name, weight in weights[False].items():
        moved = (weight - before[name]).abs().max()
        # Adam's first steps are of one size, whatever the gradient's: near 0 its sign may turn
        assert (weights[True][name] - weight).abs().float().median() <= 0.02 * moved + 1e-7, name


def test_the_same_call_again_returns_the_report(desk: Path, tmp_path: Path) -> None:
    said: list[str] = []
    call = {"method": "ran_lab", "parameters": FAST, "on_progress": said.append}
    first = forget(desk / "model", desk / "forget.csv", tmp_path / "out", **call)
    again = forget(desk / "model", desk / "forget.csv", tmp_path / "out", **call)
    assert again.report == first.report and "already done" in said[-1]
    with pytest.raises(output_folder.OutputError, match="another request"):
        forget(desk / "model", desk / "forget.csv", tmp_path / "out", seed=1, **call)
    (tmp_path / "out" / "README.md").write_text("changed")
    with pytest.raises(output_folder.OutputError, match="README.md"):
        forget(desk / "model", desk / "forget.csv", tmp_path / "out", **call)


def test_copies_made_in_pieces_are_those_made_at_once(desk: Path) -> None:
    prepared = _prepared(desk / "model", desk / "forget.csv")
    part, parameters = prepared.sets["forget"].clips, AttackParameters(copies=2, steps=3)
    whole = adversarial_set(prepared.model, part, 3, parameters, seed=4)
    pieces = [
        adversarial_set(
            prepared.model, part.at(range(first, first + 2)), 3, parameters, seed=4, first=first
        )
        for first in (0, 2, 4)
    ]
    labels = torch.cat([piece.clips.labels for piece in pieces])
    assert torch.equal(labels, whole.clips.labels)
    made = [waveform for piece in pieces for waveform in piece.clips.waveforms_z]
    # other batches add up in another order, which the sign of a gradient near 0 turns into a step
    same = [bool(((a - b).abs() < 1e-5).float().mean() > 0.95) for a, b in zip(
        made, whole.clips.waveforms_z, strict=True
    )]
    assert all(same)


def test_copies_are_read_from_disk_as_they_were_made(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = _prepared(desk / "model", desk / "forget.csv")
    part, parameters = prepared.sets["forget"].clips, AttackParameters(copies=2, steps=1)
    monkeypatch.setattr(unlearning, "_COPIES_A_PIECE", 4)
    specification = {"model": "", "fast": False, "computing": {}}
    make = unlearning._in_pieces(Cache(tmp_path), prepared, specification, lambda text: None)
    copies = make(prepared.model, parameters, 4, Cost())
    assert copies.clips.lengths == [length for length in part.lengths for _ in range(2)]
    for first in range(0, len(part), 2):
        chosen = part.at(range(first, first + 2))
        piece = adversarial_set(prepared.model, chosen, 3, parameters, seed=4, first=first)
        at = range(2 * first, 2 * first + 4)
        assert torch.equal(copies.clips.labels[list(at)], piece.clips.labels)
        assert torch.equal(copies.reached[list(at)], piece.reached)
        for place, moved in zip(at, piece.clips.waveforms_z, strict=True):
            clip = part.waveforms_z[place // 2]
            assert torch.equal(copies.clips.waveforms_z[place], clip + (moved - clip))


def test_waveforms_that_are_not_normalised_are_scaled_without_rounding(tmp_path: Path) -> None:
    write(tmp_path / "model", "wav2vec2, not normalised")
    prepared = _prepared(tmp_path / "model", clips(tmp_path, "forget", 5, 0))
    unit = prepared.model.unit
    assert np.log2(unit) == round(np.log2(unit)) and unit != 1
    spreads = []
    for path, own in zip(
        prepared.sets["forget"].about["path"], prepared.sets["forget"].clips.waveforms_z,
        strict=True,
    ):
        waveform, _ = decode(tmp_path / path)
        assert np.array_equal(own.numpy() * np.float32(unit), waveform)
        spreads.append(float(own.std()))
    assert 0.7 < np.median(spreads) < 1.5


def test_what_cannot_be_used_is_refused_before_work(desk: Path, tmp_path: Path) -> None:
    def refused(error: type, match: str, **changed: object) -> None:
        call = {"model": desk / "model", "forget": desk / "forget.csv", "out": tmp_path / "out"}
        with pytest.raises(error, match=match):
            forget(**(call | changed))
        assert not (tmp_path / "out").exists()

    refused(ParameterError, "method: 'no such'", method="no such")
    refused(ParameterError, "recipe", method="retrain")
    refused(ParameterError, "needs the retain clips", method="scrub")
    refused(ParameterError, "has no 'no such'", parameters={"no such": 1})
    refused(ParameterError, "learning_rate: -1", parameters={"learning_rate": -1.0})
    refused(ParameterError, "seed: -1", seed=-1)
    refused(ModelError, "no such folder", model=desk / "nowhere")
    refused(ModelError, "config.json", model=desk)
    refused(CorpusError, "no such CSV", forget=desk / "nowhere.csv")
    refused(CorpusError, "same recording", retain=desk / "forget.csv")
    refused(ParameterError, "overlaps", out=desk / "model" / "out")
    refused(ParameterError, "overlaps", out=desk)
    whole = {"whole_speakers": True}
    refused(ParameterError, "whole_speakers: it needs unseen clips", **whole)
    refused(ParameterError, "retain.csv has another clip of a speaker", **whole,
            unseen=_of_others(desk), retain=desk / "retain.csv")
    for other in ({"parameters": {"weight": 1.0}},
                  {"method": "ran_lab", "parameters": {"epochs": 1}}):  # fmt: skip
        refused(ParameterError, "whole_speakers: method .* does not go by", **whole, **other,
                unseen=_of_others(desk))
    (desk / "nameless.csv").write_text("path,label\nunseen/0.wav,low\n")
    refused(ParameterError, "need a column speaker", **whole, unseen=desk / "nameless.csv")
    (desk / "other.csv").write_text("path,label\nforget/0.wav,purple\n")
    refused(CorpusError, "no class 'purple' \\(row 2\\)", forget=desk / "other.csv")
    (desk / "two.csv").write_text("path,label\nforget/0.wav,low\nforget/0.wav,high\n")
    refused(CorpusError, "two labels", forget=desk / "two.csv")
    other = write(tmp_path / "raw", "wav2vec2, not normalised")
    refused(ParameterError, "takes other waveforms", references=[other])
    copied = shutil.copytree(desk / "model", tmp_path / "copy")
    (copied / "model.safetensors").unlink()  # the same weights, kept in another way
    torch.save(load_file(desk / "model" / "model.safetensors"), copied / "pytorch_model.bin")
    one, two = (write(tmp_path / name, seed=5) for name in ("one", "two"))
    same = "references: .*{}' has the weights of .*{}'".format
    refused(ParameterError, same("copy", "model"), references=[copied])
    refused(ParameterError, same("two", "one"), references=[one, two])
    refused(ParameterError, same("one", "one"), references=[one, one])
    with pytest.raises(ParameterError, match=same("model", "copy")):
        audit(one, desk / "forget.csv", original=copied, references=[desk / "model"])
    refused(ParameterError, "seed: 4294967296 is not from 0", seed=2**32)


def test_a_recording_that_is_named_twice_counts_once(desk: Path, tmp_path: Path) -> None:
    (desk / "twice.csv").write_text("path,label\nforget/0.wav,low\nforget/0.wav,low\n")
    report = audit(desk / "model", desk / "twice.csv").report
    assert report["inputs"]["forget"]["clips"] == 1
    assert report["notes"] == ["forget: 1 rows name a recording a second time"]


def test_the_root_decides_where_paths_begin(desk: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_bytes((desk / "forget.csv").read_bytes())
    with pytest.raises(CorpusError, match="no such file"):
        audit(desk / "model", elsewhere)
    assert audit(desk / "model", elsewhere, root=desk).report["inputs"]["forget"]["clips"] == 6


def test_a_checkpoint_without_its_head_is_no_classifier(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = write(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    kept = {name: w for name, w in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="no weights of 'classifier"):
        checkpoints.load(folder)


def test_half_precision_stays_half_precision(desk: Path, tmp_path: Path) -> None:
    half = AutoModelForAudioClassification.from_pretrained(desk / "model", dtype=torch.float16)
    half.save_pretrained(tmp_path / "half")
    shutil.copy(desk / "model" / "preprocessor_config.json", tmp_path / "half")
    forget(
        tmp_path / "half", desk / "forget.csv", tmp_path / "out", method="ran_lab",
        parameters=FAST,
    )

    written = load_file(tmp_path / "out" / "model.safetensors")
    assert {weight.dtype for weight in written.values()} == {torch.float16}


def test_clips_longer_than_the_model_hears_are_noted(tmp_path: Path) -> None:
    import soundfile

    write(tmp_path / "model", "whisper")
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.wav", 0.1 * rng.standard_normal(24000), 16000)
    (tmp_path / "forget.csv").write_text("path,label\nlong.wav,low\n")
    report = audit(tmp_path / "model", tmp_path / "forget.csv").report
    assert report["notes"] == ["forget: of 1 clips the model hears the first 1 s alone"]


def test_an_answer_without_a_mask_is_asked_for_alone(tmp_path: Path) -> None:
    """Without a mask padding is heard: the audit asks for each clip alone, as transformers does."""
    write(tmp_path / "model", "wav2vec2, no mask")
    prepared = _prepared(tmp_path / "model", clips(tmp_path, "forget", 4, 0))
    assert prepared.model.answers_alone
    padded, lengths = audio.pad(prepared.sets["forget"].clips.waveforms_z)
    with torch.no_grad():
        together = prepared.model(padded, lengths)
    assert (together - _answers(prepared)).abs().max() > 1e-4


def _of_others(desk: Path) -> Path:
    file = desk / "others.csv"
    file.write_text((desk / "unseen.csv").read_text().replace(",speaker ", ",another "))
    return file


def test_what_unseen_speakers_lose_tells_how_far_to_go(desk: Path, tmp_path: Path) -> None:
    def details(out: str, unseen: Path, **others: object) -> dict:
        done = forget(desk / "model", desk / "forget.csv", tmp_path / out, unseen=unseen,
                      parameters={"epochs": 1}, **others)  # fmt: skip
        page = (done.out / "report.html").read_text()
        assert ("as on unseen speakers" in page) == ("whole_speakers" in others)
        return done.report["details"]

    logits = _transformers_logits(desk / "model", [desk / f"unseen/{i}.wav" for i in range(9)])
    labels = torch.tensor([i % len(LABELS) for i in range(9)])
    by_hand = float(torch.nn.functional.cross_entropy(logits, labels))
    found = details("found", _of_others(desk))
    assert found["unseen_loss"] == pytest.approx(by_hand, rel=1e-4)
    whole = details("whole", _of_others(desk), whole_speakers=True)
    assert whole["never_heard"] == pytest.approx(by_hand, rel=1e-4) != found["never_heard"]
    # clips of the same speakers say nothing of unseen ones
    assert "unseen_loss" not in details("alike", desk / "unseen.csv")


def test_one_recording_in_two_sets_is_refused(desk: Path) -> None:
    labels = list(LABELS)
    parts = {
        name: inputs.read(name, desk / file, labels, sampling_rate=16000, normalise=True)
        for name, file in (("retain", "retain.csv"), ("unseen", "retain.csv"))
    }
    with pytest.raises(CorpusError, match="of the retain clips"):
        inputs.check_apart(parts)


def test_the_command_line_says_what_it_did_and_what_it_refuses(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from speechunlearn import cli

    def run(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", ["speechunlearn", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0)

    given = ["--model", desk / "model", "--forget", desk / "forget.csv"]
    own = ["--method", "ran_lab", "-p", "epochs=2", "--seed", 4]
    assert run("forget", *given, "--out", tmp_path / "out", *own) == 0
    said = capsys.readouterr()
    assert "method: Ran. Lab." in said.out and "not assessed" in said.out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["seed"] == 4 and report["method"]["parameters"]["epochs"] == 2
    assert run("audit", "--model", tmp_path / "out", *given[2:], "--original", desk / "model",
               "--unseen", desk / "unseen.csv", "--out", tmp_path / "audit") == 0
    assert "original" in capsys.readouterr().out and (tmp_path / "audit/report.html").is_file()
    assert run("forget", *given, "--out", tmp_path / "other", "--method", "nothing") == 2
    assert capsys.readouterr().err.startswith("speechunlearn: method: 'nothing' is not one of")
    (desk / "ledger.csv").write_text("id,forget,method\na,forget.csv,ran_lab\nb,gone.csv,\n")
    asked = ["ledger", desk / "ledger.csv", "--model", desk / "model", "--out", tmp_path / "l"]
    assert run(*asked) == 1
    said = capsys.readouterr()
    assert "done" in said.out and "gone.csv: no such CSV file" in said.out


def test_the_example_is_what_the_study_holds(tmp_path: Path, demos_root: Path) -> None:
    """The tool's scores of a study's model are the study's own."""
    from tiny_study import study as tiny

    from speechunlearn.audit import predictions
    from speechunlearn.audit import scoring as audits
    from speechunlearn.lab import example
    from speechunlearn.lab.forget_sets import clips as draw
    from speechunlearn.models import training

    study = tiny(demos_root, tmp_path / "cache")
    forget_set = draw(2, 0)
    (tmp_path / "desk").mkdir()
    given = example.write(study, forget_set, 0, tmp_path / "desk")
    folder = tmp_path / "desk"
    report = audit(
        folder / given.model, folder / given.forget, retain=folder / given.retain,
        unseen=folder / given.unseen,
    ).report
    parts = study.scored_clips(forget_set)
    model = study.original(0)
    logits = training.answers(model, parts)
    table = predictions.table(
        logits, {name: part.hashes for name, part in parts.items()}, study.manifest, study.labels
    )
    expected = audits.scores(table, len(study.labels))
    for (split, metric), value in expected.items():
        if metric in ("uar", "accuracy"):
            assert report["scores"]["model"][split][metric] == pytest.approx(value)

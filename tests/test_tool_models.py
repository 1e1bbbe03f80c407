"""Other people's checkpoints: every type that transformers knows, and what their folders hold.

What a report says is what transformers itself says of each clip alone, and what is written answers
in transformers as the report says.
"""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from checkpoint import _AST, _ON_WAVEFORMS, _WHISPER, LABELS, MOONSHINE, clips, write
from safetensors.torch import load_file, save_file
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

from speechunlearn.dataset import audio
from speechunlearn.errors import CorpusError, LackError, ModelError
from speechunlearn.models import training
from speechunlearn.models.classifier import Classifier, Frontend, quiet, seeded
from speechunlearn.tool import checkpoints, forget, ledger, output_folder
from speechunlearn.tool.output_folder import OutputError
from speechunlearn.tool.unlearning import prepare

#: with the one that `speechunlearn.models.moonshine` registers
ARCHITECTURES = dict(MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES) | {
    "moonshine_classifier": "MoonshineForSequenceClassification"
}
TABLE = Path(__file__).parents[1] / "book" / "models.csv"
COLUMNS = ["model_type", "class", "forget", "why"]
_EXTRACTORS = {
    "audio-spectrogram-transformer": {"max_length": 64, "num_mel_bins": 32},
    "whisper": {"feature_size": 20, "chunk_length": 5, "return_attention_mask": False},
}
_SEW = {"squeeze_factor": 2, "max_position_embeddings": 64, "position_buckets": 8}
_CONFIGS = {
    "audio-spectrogram-transformer": _AST,
    "moonshine_classifier": MOONSHINE,
    "sew": _ON_WAVEFORMS | _SEW,
    "sew-d": _ON_WAVEFORMS | _SEW,
    "wav2vec2-bert": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "classifier_proj_size": 16,
    },
    "wav2vec2-conformer": _ON_WAVEFORMS | {
        "conv_depthwise_kernel_size": 3, "position_embeddings_type": "rotary",
    },
    "data2vec-audio": _ON_WAVEFORMS | {"num_conv_pos_embeddings": 1, "conv_pos_kernel_size": 3},
    "whisper": _WHISPER | {"max_source_positions": 250},
}  # fmt: skip


def checkpoint(folder: Path, kind: str, *, mask: bool = True, **settings: object) -> Path:
    """Write a checkpoint of one of transformers' types, small and with random weights."""
    config = transformers.CONFIG_MAPPING[kind](**_CONFIGS.get(kind, _ON_WAVEFORMS) | settings)
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {label: i for i, label in enumerate(LABELS)}
    with seeded(0), quiet():
        network = transformers.AutoModelForAudioClassification.from_config(config)
        for name, weight in network.named_parameters():
            if name.startswith(("classifier", "projector")):
                torch.nn.init.normal_(weight)
        network.save_pretrained(folder)
    extractor = transformers.FEATURE_EXTRACTOR_MAPPING[type(config)]
    extractor(**{"return_attention_mask": mask} | _EXTRACTORS.get(kind, {})).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of unequal length, one of them ten times as long as another."""
    folder = tmp_path_factory.mktemp("clips")
    file = clips(folder, "forget", 5, 0)
    waveform, _ = soundfile.read(folder / "forget" / "0.wav")
    shorter = waveform[:3000]
    soundfile.write(folder / "forget" / "0.wav", shorter, 16000)
    noise = np.random.default_rng(0).standard_normal(10 * len(shorter))
    soundfile.write(folder / "forget" / "1.wav", 0.1 * noise, 16000)
    return file


def by_transformers(folder: Path, paths: list[Path]) -> torch.Tensor:
    """What transformers' own pipeline says of clips, one by one: its logits."""
    with quiet():
        pipeline = transformers.pipeline("audio-classification", str(folder), device="cpu")
    rows = []
    for path in paths:
        waveform, rate = soundfile.read(path, dtype="float32")
        answers = pipeline(
            {"raw": waveform, "sampling_rate": rate}, function_to_apply="none", top_k=None
        )
        scores = {answer["label"]: answer["score"] for answer in answers}
        rows.append([scores[label] for label in LABELS])
    return torch.tensor(rows)


def reported(model: Path, file: Path) -> tuple[torch.Tensor, list[Path]]:
    """What this package says of the same clips, as a report has it."""
    prepared = prepare(model, {"forget": file})
    part = prepared.sets["forget"]
    batch_size = 1 if prepared.model.answers_alone else 32
    answers = training.predict(prepared.model, part.clips, batch_size=batch_size)
    return answers, [file.parent / path for path in part.about["path"]]


def deviation(model: Path, file: Path) -> float:
    """Return how far the two are apart, by the largest logit above 1."""
    said, paths = reported(model, file)
    expected = by_transformers(model, paths)
    assert expected.std(dim=0).max() > 1e-3  # the clips' answers differ at all
    return float((said - expected).abs().max() / max(1.0, float(expected.abs().max())))


def _row(kind: str, folder: Path, file: Path) -> dict[str, str]:
    """Return what becomes of a request on a type, tried."""
    try:
        checkpoints.load(checkpoint(folder, kind))
    except ModelError as error:
        why = str(error).partition(": ")[2]
        assert kind in why  # refused by its name
        why = why.partition(" is not one of")[0] + " is none of these"
        return {"forget": "refused", "why": why}
    apart = [deviation(folder, file)]
    if kind in checkpoints.ON_WAVEFORMS:
        for mask, norm in ((True, "group"), (False, "group"), (False, "layer")):
            other = folder.with_name(f"{folder.name} {mask} {norm}")
            checkpoint(other, kind, mask=mask, feat_extract_norm=norm)
            apart.append(deviation(other, file))
    assert max(apart) < 1e-5
    return {"forget": "supported", "why": ""}


def test_readme_lists_what_the_table_says() -> None:
    text = (TABLE.parents[1] / "README.md").read_text(encoding="utf-8")
    text = text.partition("\n## What is supported")[2].partition("\n## ")[0]
    supported, refused = (re.findall("`([a-z0-9_-]+)`", part) for part in text.split(";")[:2])
    with TABLE.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    for names, outcome in ((supported, "supported"), (refused, "refused")):
        assert names == [row["model_type"] for row in rows if row["forget"] == outcome]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_table_says_what_becomes_of_each_type(kind: str, listed: Path, tmp_path: Path) -> None:
    with TABLE.open(newline="", encoding="utf-8") as opened:
        rows = {row["model_type"]: row for row in csv.DictReader(opened)}
    assert set(rows) == set(ARCHITECTURES)
    own = {"model_type": kind, "class": ARCHITECTURES[kind]}
    assert rows[kind] == own | _row(kind, tmp_path / kind, listed)


@pytest.mark.parametrize(
    "kind", [*checkpoints.ON_WAVEFORMS, *checkpoints.ON_SPECTROGRAMS]
)
def test_what_is_written_answers_in_transformers_as_the_report_says(
    kind: str, listed: Path, tmp_path: Path
) -> None:
    # SpecAugment and clips shorter than one of its masks, as in the configs that people have
    more = {} if kind in checkpoints.ON_SPECTROGRAMS else {
        "feat_extract_norm": "group", "apply_spec_augment": True, "mask_time_length": 400,
        "mask_time_prob": 0.05,
    }  # fmt: skip
    model = checkpoint(tmp_path / "model", kind, **more)
    done = forget(model, listed, tmp_path / "out", method="ran_lab", parameters={
        "epochs": 1, "learning_rate": 1e-3,
    })  # fmt: skip
    paths = [listed.parent / clip["path"] for clip in done.report["forgotten"]]
    truth = torch.tensor([LABELS.index(clip["label"]) for clip in done.report["forgotten"]])
    for when, folder in (("before", model), ("after", tmp_path / "out")):
        loss = torch.nn.functional.cross_entropy(by_transformers(folder, paths), truth)
        said = done.report["scores"][when]["forget"]["mean_loss"]
        assert said == pytest.approx(float(loss), abs=1e-5, rel=1e-5)


def test_a_batch_changes_no_answer(listed: Path, tmp_path: Path) -> None:
    """A group norm takes padding for speech with a mask and without: it is measured, not read."""
    alone = {
        (mask, norm): checkpoints.load(
            checkpoint(tmp_path / f"{mask} {norm}", "wav2vec2", mask=mask, feat_extract_norm=norm)
        ).answers_alone
        for mask in (True, False) for norm in ("group", "layer")
    }
    assert [pair for pair, needed in alone.items() if not needed] == [(True, "layer")]
    # Moonshine has a group norm, too, and its statistics are of a clip's own frames
    of_moonshine = checkpoints.load(checkpoint(tmp_path / "moonshine", "moonshine_classifier"))
    assert not of_moonshine.answers_alone


def test_the_clips_of_a_batch_are_bounded_by_their_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Model(Classifier):
        def forward(self, waveform_z: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(waveform_z.shape))
            return torch.zeros(len(lengths), 2)

    monkeypatch.setattr(training, "at_once", lambda model: 100)
    lengths = [90, 40, 30, 20, 10]
    part = training.Clips(
        [torch.ones(n) for n in lengths], torch.zeros(5, dtype=torch.long), list("abcde"),
        list("abcde"),
    )
    training.predict(Model(torch.nn.Linear(1, 1), ["a", "b"], Frontend()), part)
    assert seen == [(1, 90), (2, 40), (2, 20)]


# --- folders ---


def _as_processor(folder: Path) -> None:
    own = folder / "preprocessor_config.json"
    settings = {"processor_class": "Wav2Vec2Processor",
                "feature_extractor": json.loads(own.read_text())}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    own.unlink()


def _pickled(folder: Path) -> None:
    own = folder / "model.safetensors"
    torch.save(load_file(own), folder / "pytorch_model.bin")
    own.unlink()
    save_file({"state.0": torch.zeros(3)}, folder / "optimizer.safetensors", {"format": "pt"})


def _old_names(folder: Path) -> None:
    new = "parametrizations.weight.original"
    weights = {
        name.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): weight
        for name, weight in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _in_shards(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"model-{place % 2}.safetensors" for place, name in enumerate(weights)}
    for file in set(files.values()):
        own = {name: weight for name, weight in weights.items() if files[name] == file}
        save_file(own, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _without_defaults(folder: Path) -> None:
    settings = {"feature_size": 1, "padding_value": 0.0, "return_attention_mask": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    "changed", [_as_processor, _pickled, _old_names, _in_shards, _without_defaults]
)
def test_a_folder_that_transformers_reads_is_read_and_written(
    changed: Callable[[Path], None], listed: Path, tmp_path: Path
) -> None:
    model = checkpoint(tmp_path / "model", "wav2vec2")
    changed(model)
    assert deviation(model, listed) < 1e-5
    forget(model, listed, tmp_path / "out", method="ran_lab", parameters={"epochs": 1})
    configs = {"config.json", "preprocessor_config.json", "processor_config.json"}
    written = {path.name for path in (tmp_path / "out").iterdir()} & configs
    assert written == {path.name for path in model.iterdir()} & configs
    assert deviation(tmp_path / "out", listed) < 1e-5


def test_what_is_written_is_what_transformers_writes(tmp_path: Path) -> None:
    """And no setting of a config that transformers reads, but does not write, loses the work."""
    model = checkpoint(tmp_path / "model", "wav2vec2")
    config = model / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"output_attentions": True}))
    (tmp_path / "out").mkdir()
    checkpoints.save(checkpoints.load(model), tmp_path / "out")
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (model / name).read_bytes()


def test_each_weight_keeps_its_precision(listed: Path, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", "wav2vec2")
    weights = load_file(model / "model.safetensors")
    types = (torch.bfloat16, torch.float16, torch.float32)
    mixed = {
        name: weight.to(types[place % 3]) for place, (name, weight) in enumerate(weights.items())
    }
    save_file(mixed, model / "model.safetensors", {"format": "pt"})
    forget(model, listed, tmp_path / "out", method="ran_lab", parameters={"epochs": 1})
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: weight.dtype for name, weight in written.items()} == {
        name: weight.dtype for name, weight in mixed.items()
    }


def test_a_model_that_is_replaced_meanwhile_is_not_what_is_written(
    listed: Path, tmp_path: Path
) -> None:
    model = checkpoint(tmp_path / "model", "wav2vec2")
    config, sha256 = (model / "config.json").read_bytes(), checkpoints.digest(model)

    def replace(text: str) -> None:
        (model / "config.json").write_text('{"model_type": "other"}')

    done = forget(
        model, listed, tmp_path / "out", method="ran_lab", parameters={"epochs": 1},
        on_progress=replace,
    )
    assert (tmp_path / "out" / "config.json").read_bytes() == config
    assert done.report["model"]["sha256"] == sha256


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"problem_type": "multi_label_classification"}, "problem_type is 'multi_label"),
        ({"problem_type": "regression"}, "problem_type is 'regression'"),
        ({"id2label": {"0": "x" * 1001, "1": "y"}}, "is no name"),
        ({"id2label": {"0": "felicit\u00e0", "1": "felicita\u0300"}}, "two labels one name"),
    ],
)
def test_what_is_no_classifier_of_one_label_is_refused(
    settings: dict[str, object], reason: str, tmp_path: Path
) -> None:
    config = write(tmp_path / "model") / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    with pytest.raises(ModelError, match=reason):
        checkpoints.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        (lambda weights: {f"module.{name}": weight for name, weight in weights.items()},
         r"no weights of 'classifier.bias' .*some of 'module.classifier.bias'.*save_pretrained"),
        (lambda weights: {"state_dict": weights, "epoch": 3}, "holds no weights by their names"),
        (lambda weights: {
            name: weight for name, weight in weights.items() if "classifier" not in name
        }, r"no weights of 'classifier.bias' \(2 missing\): a classifier that was fine-tuned"),
    ],
)
def test_weights_under_other_names_are_named(
    kept: Callable[[dict[str, torch.Tensor]], object], reason: str, tmp_path: Path
) -> None:
    model = checkpoint(tmp_path / "model", "wav2vec2")
    torch.save(kept(load_file(model / "model.safetensors")), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=reason):
        checkpoints.load(model)


def test_a_request_is_done_though_its_recordings_were_deleted(tmp_path: Path) -> None:
    model, file = checkpoint(tmp_path / "model", "wav2vec2"), clips(tmp_path, "forget", 4, 0)
    request = {"method": "ran_lab", "parameters": {"epochs": 1}}
    done = forget(model, file, tmp_path / "out", **request)
    for recording in (tmp_path / "forget").iterdir():
        recording.unlink()
    said: list[str] = []
    again = forget(model, file, tmp_path / "out", on_progress=said.append, **request)
    assert again.report == done.report and said == [f"already done: {tmp_path / 'out/report.json'}"]
    other = checkpoint(tmp_path / "other", "wav2vec2", hidden_size=32)
    changed = tmp_path / "changed.csv"
    changed.write_text(file.read_text().replace("forget/3.wav", "forget/4.wav"))
    for one, listed, more in (
        (other, file, {}), (model, changed, {}), (model, file, {"seed": 1}),
        (model, file, {"parameters": {"epochs": 2}}), (model, file, {"method": "neggrad"}),
    ):
        with pytest.raises(CorpusError, match="no such file"):
            forget(one, listed, tmp_path / "out", **request | more)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_list_that_is_written_otherwise_asks_for_the_same(deleted: bool, tmp_path: Path) -> None:
    model, file = checkpoint(tmp_path / "model", "wav2vec2"), clips(tmp_path, "forget", 4, 0)
    request = {"method": "ran_lab", "parameters": {"epochs": 1}}
    done = forget(model, file, tmp_path / "out", **request)
    recordings = tmp_path / "forget"
    if deleted:
        shutil.rmtree(recordings)
    header, *rows = (line.split(",") for line in file.read_text().splitlines())
    assert header == ["path", "label", "speaker"]
    otherwise = "\r\n".join(
        ["speaker,note,label,path"]
        + [f'{speaker},"x, y",{label}, ./{path}' for path, label, speaker in rows[::-1]]
        + [f",,{rows[0][1]},{rows[0][0]}", ""]
    )
    file.write_bytes(b"\xef\xbb\xbf" + otherwise.encode())
    said: list[str] = []
    again = forget(model, file, tmp_path / "out", on_progress=said.append, **request)
    assert again.report == done.report and said == [f"already done: {tmp_path / 'out/report.json'}"]
    # one of its clips, or a label, makes another
    label = {row[1] for row in rows}
    fewer = [row for row in rows if row != rows[2]]
    relabelled = [[rows[0][0], min(label - {rows[0][1]}), ""], *rows[1:]]
    for other in (fewer, relabelled):
        file.write_text("\n".join(["path,label,speaker", *map(",".join, other)]))
        with pytest.raises((CorpusError, OutputError), match="no such file|another request"):
            forget(model, file, tmp_path / "out", **request)


@pytest.mark.parametrize(
    "lack", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_a_lack_of_memory_is_no_fault_of_a_request(
    lack: Exception, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = checkpoint(tmp_path / "model", "wav2vec2"), tmp_path / "out"
    table = tmp_path / "ledger.csv"
    table.write_text(f"id,forget,method\na,{listed},ran_lab\n")
    answers = checkpoints.WaveformClassifier.logits

    def fails(own: object, waveform_z: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            raise lack
        return answers(own, waveform_z, lengths)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.WaveformClassifier, "logits", fails)
        with pytest.raises(LackError, match="out of memory: run it again when there is more"):
            ledger.run(model, table, out, root=listed.parent)
    assert json.loads((out / ledger.STATE).read_text())["failed"] == {}
    assert list(ledger.run(model, table, out, root=listed.parent)["status"]) == ["done"]


def test_where_the_folder_lies_is_said(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "run" / "checkpoint-20", "wav2vec2")
    with pytest.raises(ModelError, match="no config.json; there is one in checkpoint-20"):
        checkpoints.load(tmp_path / "run")
    with pytest.raises(ModelError, match="it is a file: name the folder"):
        checkpoints.load(model / "config.json")


def test_a_pickle_that_holds_less_than_it_says_is_refused(tmp_path: Path) -> None:
    """A view of one number can have any shape: it would take its memory when it is loaded."""
    model = checkpoint(tmp_path / "model", "wav2vec2")
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    weights["classifier.weight"] = torch.zeros(1).expand_as(weights["classifier.weight"])
    torch.save(weights, model / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds less of 'classifier.weight' than its shape says"):
        checkpoints.load(model)


def test_an_adapter_is_named_though_it_has_no_config(tmp_path: Path) -> None:
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "owner/base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(ModelError, match=r"adapter of 'owner/base'.*merge_and_unload"):
        checkpoints.load(tmp_path)


# --- hubs ---


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, object]]]:
    """A repository without safetensors, whose revision moves; what was asked of it."""
    import huggingface_hub
    from huggingface_hub import errors

    asked: list[dict[str, object]] = []
    source = checkpoint(tmp_path / "source", "wav2vec2")
    _pickled(source)

    def download(
        name: str, *, revision: str | None, allow_patterns: list[str]
    ) -> str:
        asked.append({"name": name, "revision": revision})
        if name == "me/gated":
            response = type("Response", (), {"headers": {}, "request": None, "status_code": 403})()
            raise errors.GatedRepoError("403 Client Error.", response=response)
        folder = tmp_path / (revision or f"{len(asked):040d}")
        folder.mkdir(exist_ok=True)
        for path in source.iterdir():
            if path.name != "optimizer.safetensors" and any(
                path.match(pattern) for pattern in allow_patterns
            ):
                (folder / path.name).write_bytes(path.read_bytes())
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    checkpoints._snapshot.cache_clear()
    yield asked
    checkpoints._snapshot.cache_clear()


def test_a_repository_is_taken_at_one_commit(
    hub: list[dict[str, object]], listed: Path, tmp_path: Path
) -> None:
    done = forget("me/bin", listed, tmp_path / "out", method="ran_lab", parameters={"epochs": 1})
    commit = f"{1:040d}"
    assert [call["revision"] for call in hub] == [None, commit]  # the pickle, of the same commit
    assert done.report["model"]["revision"] == commit
    assert output_folder.finished(tmp_path / "out")
    checkpoints.load(f"me/bin@{commit}")
    assert hub[-1] == {"name": "me/bin", "revision": commit}


def test_what_to_do_about_a_gated_repository_is_said(hub: list[dict[str, object]]) -> None:
    with pytest.raises(ModelError, match=r"gated: ask for access at .*me/gated, then log in"):
        checkpoints.load("me/gated")


def test_clips_beyond_full_scale_are_heard_as_they_are(tmp_path: Path) -> None:
    """A float file in units of 16-bit integers: an extractor that normalises nothing sees them."""
    model = checkpoint(tmp_path / "model", "audio-spectrogram-transformer")
    file = clips(tmp_path, "forget", 3, 0)
    hashes = prepare(model, {"forget": file}).sets["forget"].about["hash"].tolist()
    for number in range(3):
        path = tmp_path / "forget" / f"{number}.wav"
        waveform, rate = soundfile.read(path, dtype="float32")
        soundfile.write(path, waveform / np.abs(waveform).max() * 32768, rate, subtype="FLOAT")
    prepared = prepare(model, {"forget": file})
    assert any("3 clips have samples beyond full scale" in note for note in prepared.notes)
    assert len(set(hashes)) == 3
    assert deviation(model, file) < 1e-5
    assert audio.read_clip(tmp_path / "forget" / "0.wav").max() <= 1

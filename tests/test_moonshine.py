"""Moonshine as a classifier: what it says of a clip is what transformers says of it alone."""

import json
import os
import struct
import sys
import zipfile
from pathlib import Path

import pytest
import tiny
import torch
from checkpoint import MOONSHINE as TINY
from conftest import REPOSITORY
from safetensors.torch import load_file, save_file
from transformers import MoonshineConfig, MoonshineForConditionalGeneration
from transformers.models.moonshine.modeling_moonshine import MoonshineEncoder

from speechunlearn.errors import ModelError, ParameterError
from speechunlearn.models import classifier, moonshine, training
from speechunlearn.models.classifier import Classifier, Frontend, seeded
from speechunlearn.models.fast_mode import fast

sys.path.insert(0, str(REPOSITORY / "data"))
import fetch_moonshine  # noqa: E402

LABELS = ("low", "middle", "high")


def made(seed: int = 0, **values: object) -> Classifier:
    """A tiny classifier with random weights, none of which is at a value that hides it."""
    config = moonshine.MoonshineClassifierConfig(num_labels=3, **(TINY | values))
    with seeded(seed):
        network = moonshine.MoonshineForSequenceClassification(config)
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
    return Classifier(network, LABELS, Frontend()).eval()


def noise(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))
    return [torch.randn(n, generator=generator) for n in lengths]


def logits(model: Classifier, clips: list[torch.Tensor], garbage: float = 0.0) -> torch.Tensor:
    """Answers to a padded batch; the padding is noise of a size."""
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = garbage * torch.randn(len(clips), int(lengths.max()) + 700)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    with torch.no_grad():
        return model(batch, lengths)


@pytest.mark.parametrize("weighted", [True, False])
def test_answers_do_not_depend_on_padding_or_batch_mates(weighted):
    model = made(use_weighted_layer_sum=weighted)
    clips = noise(895, 1278, 1279, 4000, 9001)
    alone = torch.cat([logits(model, [clip]) for clip in clips])
    assert alone.std(0).min() > 1e-3  # clips are told apart
    assert (logits(model, clips) - alone).abs().max() < 1e-5
    assert (logits(model, clips[::-1], garbage=3.0).flip(0) - alone).abs().max() < 1e-5


def test_no_gradient_reaches_the_padding():
    model, lengths = made(), torch.tensor([1500, 4000])
    batch = torch.randn(2, 4000, requires_grad=True)
    model(batch, lengths).square().sum().backward()
    assert (batch.grad[0, 1500:] == 0).all()
    assert (batch.grad[0, :1400] != 0).any() and (batch.grad[1, 3000:] != 0).any()


@pytest.mark.parametrize("samples", [895, 1278, 1279, 5000])
def test_layers_equal_transformers_own_on_a_clip_alone(samples):
    network = made().network
    theirs = MoonshineEncoder(MoonshineConfig(**TINY)).eval()
    theirs.load_state_dict(network.encoder.state_dict())
    clip = noise(samples)[0][None]
    with torch.no_grad():
        states, inside = network.states(clip)
        expected = theirs(clip).last_hidden_state
        found = network.encoder.layer_norm(states[-1])
    assert inside.all() and found.shape == expected.shape and len(states) == 3
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_transformers_own_answer_depends_on_the_padding():
    # the reason for this class: where this fails, transformers can be used as it is
    theirs = MoonshineEncoder(MoonshineConfig(**TINY)).eval()
    theirs.load_state_dict(made().network.encoder.state_dict())
    clip = noise(2000)[0]
    batch = torch.zeros(1, 9000)
    batch[0, :2000] = clip
    mask = (torch.arange(9000) < 2000).long()[None]
    with torch.no_grad():
        alone = theirs(clip[None]).last_hidden_state
        padded = theirs(batch, attention_mask=mask).last_hidden_state[:, : alone.shape[1]]
    assert (alone - padded).norm() > 0.05 * alone.norm()


def test_frames_are_counted_as_transformers_counts_a_clip_alone():
    samples = torch.arange(moonshine.LEAST, 4000)
    network = made().network
    expected = [network._get_feat_extract_output_lengths(n) for n in samples]
    assert moonshine._frames(samples, 3).tolist() == expected
    assert int(moonshine._frames(torch.tensor([moonshine.LEAST - 1]), 3)) == 0


def test_a_clip_without_a_frame_is_refused():
    with pytest.raises(ParameterError, match="a clip of 894 samples: Moonshine needs 895"):
        logits(made(), noise(2000, 894))


def test_quick_computation_gives_the_same_answers_and_gradients():
    model, clips = made(), tiny.clips(4)
    clips = clips.at(range(4))
    longer = [torch.cat([w, w, w]) for w in clips.waveforms_z]
    lengths = torch.tensor([len(w) for w in longer])
    batch = torch.nn.utils.rnn.pad_sequence(longer, batch_first=True)

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        found = model(batch, lengths)
        found.square().sum().backward()
        return found.detach(), model.network.encoder.conv1.weight.grad.clone()

    expected = both()
    with fast(model):
        found = both()
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


def test_it_trains_with_rates_of_its_own_for_front_end_encoder_and_head(monkeypatch):
    model, seen = made(), []
    real = torch.optim.AdamW

    def spy(groups, **values):
        names = {id(p): name for name, p in model.named_parameters()}
        seen.extend((group["lr"], [names[id(p)] for p in group["params"]]) for group in groups)
        return real(groups, **values)

    monkeypatch.setattr(torch.optim, "AdamW", spy)
    clips = tiny.clips(6)
    long = training.Clips(
        [torch.cat([w, w, w]) for w in clips.waveforms_z], clips.labels, clips.hashes,
        clips.speakers,
    )
    recipe = training.Recipe(
        epochs=2, learning_rate=1e-3, batch_size=3, frontend_rate=0.5, encoder_rate=0.1,
        encoder={"apply_spec_augment": True},
    )
    model.network.config.update({"apply_spec_augment": True, "mask_time_prob": 0.3,
                                 "mask_feature_prob": 0.1, "mask_feature_length": 4})
    before = tiny.weights(model)
    history = training.train(model, long, recipe, seed=0)
    assert all(torch.isfinite(torch.tensor(history)))
    rates = [rate for rate, _ in seen]
    assert rates == pytest.approx([5e-5, 1e-4, 1e-3])
    front, inside, head = (names for _, names in seen)
    assert {name.split(".")[2] for name in front} == {"conv1", "conv2", "conv3", "groupnorm"}
    assert all(name.startswith("network.encoder.") for name in inside)
    assert {name.split(".")[1] for name in head} == {"layer_weights", "projector", "classifier"}
    after = tiny.weights(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved >= {*front, *head}
    monkeypatch.undo()
    again = made()
    again.network.config.update(model.network.config.to_dict())
    training.train(again, long, recipe, seed=0)
    assert tiny.equal(tiny.weights(again), after)


def test_a_rate_of_a_part_that_is_not_there_is_refused():
    for which in ("frontend_rate", "encoder_rate"):
        recipe = training.Recipe(epochs=1, **{which: 0.1})
        with pytest.raises(ParameterError, match=f"{which}=0.1, but this network has no such"):
            training.train(tiny.classifier(), tiny.clips(4), recipe, seed=0)


def folder_of(network, folder: Path, normalised: bool = False) -> Path:
    """Write a network as transformers does, with its feature extractor."""
    from transformers import Wav2Vec2FeatureExtractor

    network.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        do_normalize=normalised, return_attention_mask=True
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("whole", [False, True])
def test_encoders_of_transformers_load_under_a_new_head(tmp_path, whole):
    with seeded(1):
        full = MoonshineForConditionalGeneration(MoonshineConfig(**TINY))
    folder = folder_of(full if whole else full.model.encoder, tmp_path / "encoder")
    model = classifier.build(str(folder), LABELS, 0, final_dropout=0.3).eval()
    assert tiny.equal(tiny.weights(model.network.encoder), tiny.weights(full.model.encoder))
    assert model.network.config.final_dropout == 0.3 and not model.frontend.do_normalize
    clips = noise(1500, 3000)
    before = logits(model, clips)
    model.save(tmp_path / "checkpoint", {})
    loaded = classifier.load(tmp_path / "checkpoint").eval()
    assert loaded.labels == LABELS and torch.equal(logits(loaded, clips), before)


def test_weights_that_are_not_there_are_refused_and_never_random(tmp_path):
    with seeded(1):
        encoder = MoonshineEncoder(MoonshineConfig(**TINY))
    folder = folder_of(encoder, tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["layers.1.mlp.fc1.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights .* 'encoder\.layers\.1\.mlp\.fc1"):
        classifier.build(str(folder), LABELS, 0)


def test_without_its_weights_the_encoder_says_how_to_fetch_them(tmp_path, monkeypatch):
    card = classifier.carried()["moonshine-tiny"] / "card.json"
    for file in card.parent.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(classifier, "_resolve", lambda encoder: str(tmp_path))
    with pytest.raises(ModelError, match="no weights.*fetch them: python data/fetch_moonshine.py"):
        classifier.check_encoder("moonshine-tiny")


@pytest.fixture(scope="module")
def weights() -> Path:
    """The real weights; skips the test where they are not.

    They lie in the package, or below the folder that the environment variable
    ``SPEECHUNLEARN_MODELS`` names, by default ``shared/models`` beside the repository.
    """
    base = Path(os.environ.get("SPEECHUNLEARN_MODELS", REPOSITORY.parent / "shared" / "models"))
    places = (classifier.carried()["moonshine-tiny"], base / "moonshine-tiny")
    for folder in places:
        if (folder / "model.safetensors").is_file():
            return folder / "model.safetensors"
    pytest.skip("the weights of moonshine-tiny are not here: python data/fetch_moonshine.py")


def test_the_real_encoder_is_what_its_card_says(weights, tmp_path, monkeypatch):
    own = classifier.carried()["moonshine-tiny"]
    for file in own.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / weights.name).symlink_to(weights)
    state = load_file(weights)
    numbers = {name: value.numpy() for name, value in state.items()}
    assert fetch_moonshine.digest(numbers) == fetch_moonshine.TENSORS
    model = classifier.build(str(tmp_path), LABELS, 0).eval()
    card = json.loads((own / "card.json").read_text())
    assert card["parameters"] == sum(p.numel() for p in model.network.encoder.parameters())
    assert model.frontend.do_normalize and model.network.config.input_scale == 0.05
    assert tiny.equal(tiny.weights(model.network.encoder), state)
    clips = noise(3000, 16000)
    alone = torch.cat([logits(model, [clip]) for clip in clips])
    assert (logits(model, clips) - alone).abs().max() < 1e-5
    theirs = MoonshineEncoder(MoonshineConfig(pad_token_id=2)).eval()
    theirs.load_state_dict(state)
    with torch.no_grad():
        expected = theirs(0.05 * clips[0][None]).last_hidden_state
        states, _ = model.network.states(clips[0][None])
        found = model.network.encoder.layer_norm(states[-1])
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_another_wheel_is_refused(tmp_path):
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other", b"")
    with pytest.raises(ModelError, match=r"a\.whl': no moonshine_voice"):
        fetch_moonshine.fetch(wheel, tmp_path)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(fetch_moonshine.MEMBER, b"another encoder")
    with pytest.raises(ModelError, match="has SHA-256 .*, not e091ae52"):
        fetch_moonshine.fetch(wheel, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_flatbuffer_is_read_by_the_numbers_of_its_fields():
    # root -> table at 16, whose offsets (at 4) say: field 0 a text, 1 left out, 2 a number
    blob = struct.pack("<I", 16) + struct.pack("<HHHHH", 10, 12, 8, 0, 4) + b"\0\0"
    blob += struct.pack("<iii", 12, 7, 4) + struct.pack("<I", 5) + b"hello"
    table = fetch_moonshine.Table.root(blob)
    assert table.values(0) == b"hello" and table.integer(2) == 7
    assert table.values(1) == b"" and table.integer(1) == 0 and table.integer(9) == 0
    assert table.texts(1) == [] and table.tables(1) == []

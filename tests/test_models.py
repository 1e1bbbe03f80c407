"""Encoders load alike from a folder, and a clip's logits do not depend on its batch."""

import json

import numpy as np
import pytest
import tiny
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from speechunlearn.dataset.audio import pad
from speechunlearn.errors import ModelError, ParameterError
from speechunlearn.models import classifier
from speechunlearn.models.classifier import Frontend

torch.set_num_threads(1)

LABELS = ["anger", "fear", "joy"]
#: wav2vec2-base made tiny: group norm, no attention mask
GROUP = tiny.WAV2VEC2 | {"feat_extract_norm": "group", "do_stable_layer_norm": False}


def save_encoder(folder, config_class=Wav2Vec2Config, model_class=Wav2Vec2Model, **extractor):
    """Write an encoder as the hub has it: no head, or none that is of use."""
    with classifier.seeded(5):
        model = model_class(config_class(**GROUP))
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(**extractor).save_pretrained(folder)
    return model


def waveforms(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, generator=generator) for length in lengths]


def logits(model, waveforms_z):
    with torch.inference_mode():
        return model(*pad(waveforms_z)).clone()


def test_nano_has_the_size_it_is_known_by():
    model = classifier.build("nano", [f"class {i}" for i in range(7)], 0)
    assert 0.4e6 < model.n_parameters < 0.8e6
    assert model.n_parameters == sum(weight.numel() for weight in model.state_dict().values())
    assert model.labels == tuple(f"class {i}" for i in range(7))
    assert model.frontend == Frontend(16000, True, True)
    # frames at 25 Hz
    assert int(np.prod(classifier.NANO["conv_stride"])) == 640
    assert logits(model.eval(), waveforms(4000)).shape == (1, 7)


def test_nano_comes_from_its_seed_alone():
    torch.manual_seed(1)
    first = tiny.weights(tiny.wav2vec2(seed=3))
    torch.manual_seed(2)
    assert tiny.equal(first, tiny.weights(tiny.wav2vec2(seed=3)))
    assert not tiny.equal(first, tiny.weights(tiny.wav2vec2(seed=4)))


def test_the_first_layer_is_a_filter_bank():
    convolution = torch.nn.Conv1d(1, 256, 400)
    with classifier.seeded(0):
        classifier.gabor_filters_(convolution)
    filters = convolution.weight.detach().double().numpy()[:, 0]
    spectra = np.abs(np.fft.rfft(filters, 16384))
    peaks = spectra.argmax(1).reshape(64, 4) * 16000 / 16384
    # four phases of one frequency, bands in order from 75 Hz to 7.6 kHz; below 500 Hz a window
    # of 25 ms holds too few periods to tell
    centres = peaks.mean(1)
    assert centres[0] < 150 and abs(centres[-1] - 7600) < 30
    high = centres > 500
    assert 40 < high.sum() and (np.diff(centres[high]) > 0).all()
    assert np.ptp(peaks[high], axis=1).max() < 40
    # the phases are a quarter of a period apart: opposite ones cancel
    for band in filters.reshape(64, 4, 400):
        np.testing.assert_allclose(band[0], -band[2], atol=1e-6)
        np.testing.assert_allclose(band[1], -band[3], atol=1e-6)
    norms = np.linalg.norm(filters, axis=1).reshape(64, 4)
    np.testing.assert_allclose(norms[-1], np.sqrt(7.6 + 0.3), rtol=1e-5)
    assert 0.1 < float(convolution.bias.detach().std()) < 0.3
    # and nano starts from it
    extractor = classifier.build("nano", LABELS, 0).network.wav2vec2.feature_extractor
    first = extractor.conv_layers[0].conv
    np.testing.assert_array_equal(first.weight.detach().numpy()[:, 0], filters.astype(np.float32))


def test_config_can_be_overridden():
    config = tiny.wav2vec2(hidden_dropout=0.25, apply_spec_augment=True).network.config
    assert config.hidden_dropout == 0.25 and config.apply_spec_augment is True
    assert config.num_labels == 3


def test_padding_does_not_change_the_logits():
    model = classifier.build("nano", LABELS, 0).eval()
    clips = waveforms(4000, 9000, 5555)
    together = logits(model, clips)
    alone = torch.cat([logits(model, [clip]) for clip in clips])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    # and the clips differ by more than that
    assert (together[0] - together[1]).abs().max() > 1e-3
    # the mask it is that does this
    model.frontend = Frontend(return_attention_mask=False)
    assert (logits(model, clips)[0] - together[0]).abs().max() > 1e-4


def test_save_and_load(tmp_path):
    model = tiny.wav2vec2(seed=1)
    model.frontend = Frontend(8000, False, True)
    clips = waveforms(700, 900)
    before = logits(model, clips)
    model.save(tmp_path / "checkpoint", {"seed": 1, "corpus": "demos"})
    loaded = classifier.load(tmp_path / "checkpoint")
    assert torch.equal(logits(loaded.eval(), clips), before)
    assert tiny.equal(tiny.weights(model), tiny.weights(loaded))
    assert loaded.labels == model.labels == ("class 0", "class 1", "class 2")
    assert loaded.frontend == Frontend(8000, False, True)
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()
    card = json.loads((tmp_path / "checkpoint" / "card.json").read_text())
    assert card == {"seed": 1, "corpus": "demos"}


def test_labels_keep_their_order(tmp_path):
    names = [f"{i}" for i in reversed(range(12))]  # sorted as text they would be in another order
    classifier.build("nano", names, 0, **tiny.WAV2VEC2).save(tmp_path, {})
    assert classifier.load(tmp_path).labels == tuple(names)


def test_the_feature_extractor_config_is_honoured(tmp_path):
    extractor = {
        "sampling_rate": 8000, "do_normalize": False, "return_attention_mask": False,
    }  # fmt: skip
    encoder = save_encoder(tmp_path, **extractor)
    expected = Frontend(8000, False, False)
    assert classifier.frontend(str(tmp_path)) == expected
    model = classifier.build(str(tmp_path), LABELS, 0).eval()
    assert model.frontend == expected
    assert model.network.config.feat_extract_norm == "group"
    assert tiny.equal(tiny.weights(encoder.eval()), tiny.weights(model.network.wav2vec2))
    seen = {}
    model.network.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    assert logits(model, waveforms(700, 900)).shape == (2, 3)
    assert seen == {"attention_mask": None}
    model.frontend = Frontend(return_attention_mask=True)
    logits(model, waveforms(700, 900))
    assert seen["attention_mask"].sum(1).tolist() == [700, 900]


def test_a_new_head_comes_from_the_seed_and_the_encoder_does_not(tmp_path):
    save_encoder(tmp_path)
    first, again, other = (
        tiny.weights(classifier.build(str(tmp_path), LABELS, seed)) for seed in (0, 0, 1)
    )
    assert tiny.equal(first, again)
    differing = {name for name in first if not torch.equal(first[name], other[name])}
    assert differing and all(n.startswith(("network.projector", "network.cl")) for n in differing)


def test_a_classifier_of_other_classes_gets_a_new_head(tmp_path):
    save_encoder(
        tmp_path, model_class=Wav2Vec2ForSequenceClassification,
        config_class=lambda **c: Wav2Vec2Config(num_labels=5, **c),
    )  # fmt: skip
    model = classifier.build(str(tmp_path), LABELS, 0).eval()
    assert logits(model, waveforms(700)).shape == (1, 3)


@pytest.mark.parametrize(
    "config_class, model_class, name",
    [(HubertConfig, HubertModel, "hubert"), (WavLMConfig, WavLMModel, "wavlm")],
)
def test_hubert_and_wavlm_load_like_wav2vec2(tmp_path, config_class, model_class, name):
    encoder = save_encoder(tmp_path / "encoder", config_class, model_class)
    model = classifier.build(str(tmp_path / "encoder"), LABELS, 0, hidden_dropout=0.3).eval()
    assert model.network.config.hidden_dropout == 0.3
    assert tiny.equal(tiny.weights(encoder.eval()), tiny.weights(getattr(model.network, name)))
    clips = waveforms(700, 900)
    before = logits(model, clips)
    assert before.shape == (2, 3)
    model.save(tmp_path / "checkpoint", {})
    assert torch.equal(logits(classifier.load(tmp_path / "checkpoint").eval(), clips), before)


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_a_folder_that_lacks_a_part_is_named(tmp_path, missing):
    save_encoder(tmp_path / "encoder")
    (tmp_path / "encoder" / missing).unlink()
    what = {"model.safetensors": "no weights", "config.json": "no config.json"}[missing]
    for use in (
        lambda folder: classifier.build(folder, LABELS, 0), classifier.check_encoder,
        classifier.frontend,
        lambda folder: classifier.load(tmp_path / "encoder"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=f"{tmp_path}/encoder.*{what}"):
            use(str(tmp_path / "encoder"))


def test_a_folder_without_feature_extractor_is_named(tmp_path):
    save_encoder(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=f"{tmp_path}.*feature-extractor"):
        classifier.build(str(tmp_path), LABELS, 0)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ModelError, match=f"{tmp_path}/none"):
        classifier.build(str(tmp_path / "none"), LABELS, 0)
    with pytest.raises(ModelError, match="'naon'"):
        classifier.check_encoder("naon")


def test_damaged_weights_are_named(tmp_path):
    save_encoder(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=f"{tmp_path}.*cannot be loaded"):
        classifier.build(str(tmp_path), LABELS, 0)
    with pytest.raises(ModelError, match=f"{tmp_path}.*cannot be loaded"):
        classifier.load(tmp_path)


def test_a_classifier_needs_two_classes():
    with pytest.raises(ParameterError, match="labels.*joy"):
        classifier.build("nano", ["joy"], 0)


def test_encoder_hash_follows_the_weights(tmp_path):
    save_encoder(tmp_path / "a")
    save_encoder(tmp_path / "b")
    same, other = classifier.encoder_hash(str(tmp_path / "a")), classifier.encoder_hash("nano")
    assert same == classifier.encoder_hash(str(tmp_path / "b")) != other
    classifier.build("nano", LABELS, 0, **tiny.WAV2VEC2).save(tmp_path / "b", {})
    assert classifier.encoder_hash(str(tmp_path / "b")) != same


def test_seeded_gives_the_global_states_back():
    torch.manual_seed(7)
    np.random.seed(7)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(7)
    np.random.seed(7)
    with classifier.seeded(0, 1):
        torch.rand(5), np.random.rand(5)
    with pytest.raises(RuntimeError), classifier.seeded(0, 1):
        torch.rand(5), np.random.rand(5)
        raise RuntimeError
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])


def test_seeded_draws_the_same_from_the_same_seed():
    def draws(*seed: int) -> list[float]:
        with classifier.seeded(*seed) as generator:
            own = torch.rand(1, generator=generator)
            return [float(torch.rand(1)), np.random.rand(), float(own)]

    first = draws(3, 1)
    assert first == draws(3, 1)
    assert len(set(first)) == 3
    for other in (draws(3, 2), draws(1, 3), draws(4, 1)):
        assert not set(first) & set(other)


def test_a_model_is_saved_without_a_bar(tmp_path, capfd):
    """transformers writes one, where nothing has told it not to: it would be part of a page."""
    from transformers.utils import logging as hf_logging

    model = tiny.wav2vec2()
    hf_logging.enable_progress_bar()
    model.save(tmp_path, {})
    assert capfd.readouterr() == ("", "")

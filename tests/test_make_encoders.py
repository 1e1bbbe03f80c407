"""The targets are what was put into the signal, and pre-training writes an encoder that loads."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechunlearn.errors import CorpusError, ParameterError
from speechunlearn.models import classifier as classifier_module
from speechunlearn.models.loop import Work

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))
import make_encoders  # noqa: E402
from make_encoders import (  # noqa: E402
    HOP,
    PITCHES,
    RECEPTIVE_FIELD,
    SPECTRUM,
    Batch,
    Frames,
    Scale,
    functionals,
    mixture,
    pretrain,
    read_words,
    targets,
)

RATE = 16000
FRAMES = 12
TIME = np.arange(RECEPTIVE_FIELD + (FRAMES - 1) * HOP) / RATE


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def harmonics(hertz: float, time: np.ndarray = TIME) -> np.ndarray:
    """A tone with a spectrum that falls like a voice's, unit variance."""
    tone = sum(np.sin(2 * np.pi * hertz * k * time + k) / k for k in range(1, 8))
    return (tone / tone.std()).astype(np.float32)


def batched(waveform: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(waveform.astype(np.float32))[None]


def words_root(root: Path, words=("yes", "no"), speakers=2, repetitions=4) -> Path:
    """Tones of a pitch of the speaker, a rhythm of the word, 0.3 s, between silences."""
    rng = np.random.default_rng(list(root.name.encode()))
    time = np.arange(int(0.3 * RATE)) / RATE
    for w, word in enumerate(words):
        for s in range(speakers):
            for repetition in range(repetitions):
                clip = 0.1 * harmonics(110 * (s + 1), time) * np.abs(np.sin(20 * (w + 1) * time))
                clip = np.pad(clip, 2000) + 1e-4 * rng.standard_normal(len(time) + 4000)
                path = root / "clips" / word / f"voice{s}_nohash_{repetition}.flac"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, clip, RATE)
    return root


def test_frames_are_those_of_the_encoder():
    assert (HOP, RECEPTIVE_FIELD) == (640, 1360)
    network = classifier_module.build("nano", ["a", "b"], 0).network.wav2vec2
    for samples in (RECEPTIVE_FIELD, 5000, 16000):
        lengths = torch.tensor([samples])
        batch = Batch(torch.zeros(1, samples), lengths, lengths, lengths, lengths, lengths)
        count = int(network._get_feat_extract_output_lengths(lengths))
        assert batch.inside.shape == (1, count)


@pytest.mark.parametrize("hertz", [65, 80, 120, 200, 230, 300])
def test_pitch_of_a_harmonic_tone(hertz):
    frames = targets(batched(harmonics(hertz)), FRAMES)
    assert frames.spectrum.shape == (1, FRAMES, SPECTRUM)
    assert frames.pitch.shape == frames.voicing.shape == (1, FRAMES, PITCHES)
    # an eighth of a semitone
    assert (frames.pitch - np.log2(hertz / 200)).abs().max() < 0.01
    assert (frames.voicing == 1).all()


def test_noise_and_silence_are_unvoiced():
    rng = np.random.default_rng(0)
    noise = targets(batched(rng.standard_normal(len(TIME))), FRAMES)
    assert (noise.voicing < 0).float().mean() > 0.9
    silence = targets(torch.zeros(1, len(TIME)), FRAMES)
    assert (silence.voicing == -1).all()
    assert silence.pitch.isfinite().all()
    assert torch.allclose(silence.spectrum, torch.tensor(1e-3).log())


def test_energy_follows_the_level():
    waveform = harmonics(200)
    half = len(waveform) // 2
    waveform[:half] *= 0.1
    energy = targets(batched(waveform), FRAMES).spectrum[0, :, -4:].mean(1)
    # 20 dB, in natural logarithms of energy
    assert (energy[-4:].mean() - energy[:4].mean()).item() == pytest.approx(np.log(100), abs=0.2)


def test_functionals_of_constant_frames():
    inside = torch.arange(6) < torch.tensor([6, 4])[:, None]
    frames = Frames(
        torch.full((2, 6, SPECTRUM), 3.0),
        torch.full((2, 6, PITCHES), 0.5),
        torch.ones(2, 6, PITCHES),
    )
    frames.spectrum[1, 4:] = 99.0  # padding
    frames.pitch[1, 4:] = 99.0
    mean, deviation, change, of_pitch = functionals(frames, inside).split(
        [SPECTRUM, SPECTRUM, SPECTRUM, 40], dim=1
    )
    assert torch.allclose(mean, torch.tensor(3.0))
    assert torch.allclose(deviation, torch.tensor(0.01))  # its floor
    assert (change == 0).all()
    expected = torch.tensor([0.5, 1e-5**0.5, 0.0, PITCHES]).repeat(2, 10)
    assert torch.allclose(of_pitch, expected, atol=1e-5)


def test_functionals_pass_over_unvoiced_pitch():
    voicing = torch.tensor([1.0, 1.0, -1.0, 1.0])[None, :, None].repeat(1, 1, PITCHES)
    pitch = torch.tensor([0.0, 1.0, 50.0, 0.5])[None, :, None].repeat(1, 1, PITCHES)
    frames = Frames(torch.zeros(1, 4, SPECTRUM), pitch, voicing)
    mean, deviation, change, share = functionals(frames, torch.ones(1, 4, dtype=bool))[0, -4:]
    assert mean.item() == pytest.approx(0.5)
    assert deviation.item() == pytest.approx((1 / 6) ** 0.5, abs=1e-4)
    assert change.item() == pytest.approx(1.0)  # one step lies between voiced frames
    assert share.item() == pytest.approx(PITCHES * 3 / 4)


def test_mixture_is_normalised_and_repeats_with_its_seed():
    first, second = harmonics(150), harmonics(250)
    mixed = mixture(first, second, np.random.default_rng(3))
    assert mixed.waveform_z.dtype == np.float32
    assert mixed.waveform_z.mean() == pytest.approx(0, abs=1e-3)
    assert mixed.waveform_z.std() == pytest.approx(1, abs=1e-3)
    assert 0 < mixed.end <= mixed.start <= mixed.end + 0.15 * RATE
    assert len(first) / 1.16 < mixed.end < len(first) / 0.84
    assert len(second) / 1.16 < len(mixed.waveform_z) - mixed.start < len(second) / 0.84
    again = mixture(first, second, np.random.default_rng(3))
    assert np.array_equal(mixed.waveform_z, again.waveform_z)


def test_halves_lie_in_their_clips():
    lengths, ends, starts = (torch.tensor([n]) for n in (16000, 6400, 8000))
    nothing = torch.zeros(2, dtype=torch.long)
    batch = Batch(torch.zeros(1, 16000), lengths, ends, starts, nothing, nothing)
    first, second = batch.halves()
    centres = torch.arange(len(first)) * HOP + RECEPTIVE_FIELD / 2
    assert centres[first].max() < 6400 and centres[second].min() >= 8000
    assert not (first & second).any()
    assert (first | second).sum() == len(first) - ((centres >= 6400) & (centres < 8000)).sum()


def test_words_are_read_trimmed_and_once(tmp_path):
    root = words_root(tmp_path / "tones")
    (root / "clips" / "no" / "voice0_nohash_copy.flac").write_bytes(
        (root / "clips" / "no" / "voice0_nohash_0.flac").read_bytes()
    )
    soundfile.write(root / "clips" / "no" / "voice0_silent.wav", np.zeros(RATE), RATE)
    soundfile.write(root / "clips" / "no" / "voice0_short.wav", harmonics(200)[:3000] / 4, RATE)
    words = read_words([root])
    assert len(words.waveforms_z) == 16 and (words.n_words, words.n_speakers) == (2, 2)
    assert words.words.tolist() == [0] * 8 + [1] * 8
    assert words.speakers.tolist() == [0, 0, 0, 0, 1, 1, 1, 1] * 2
    assert all(4000 <= len(w) < 0.3 * RATE + 4000 for w in words.waveforms_z)
    corpus = words.data[0]
    assert (corpus["folder"], corpus["clips"], corpus["words"]) == ("tones", 16, 2)
    assert "not known" in corpus["licence"]


def test_same_word_in_two_corpora_is_two(tmp_path):
    first = words_root(tmp_path / "a")
    second = words_root(tmp_path / "b", words=("no", "go", "up"))
    words = read_words([first, second])
    assert words.n_words == 5 and words.n_speakers == 4
    rare = words_root(tmp_path / "rare", words=("left", "right"), speakers=3, repetitions=3)
    with pytest.raises(CorpusError, match="rare.*0 speaker"):
        read_words([rare])
    both = read_words([first, rare])
    assert both.n_speakers == 2 and (both.speakers == -100).sum() == 18


def test_losses_fall_on_one_batch(tmp_path):
    words = read_words([words_root(tmp_path / "tones")])
    with classifier_module.seeded(0):
        classifier = classifier_module.build("nano", ["a", "b"], 0)
        network = classifier.network.wav2vec2.train()
        heads = make_encoders.Heads(words.n_words, words.n_speakers)
        pairs = np.arange(16).reshape(8, 2)
        batch = make_encoders.make_batch(words, pairs, np.random.default_rng(0))
        scale = Scale.of(batch)
        optimiser = torch.optim.AdamW([*network.parameters(), *heads.parameters()], lr=1e-3)
        history = []
        for _ in range(12):
            terms = make_encoders.losses(network, heads, batch, scale)
            assert {part: set(terms[part]) for part in terms} == {
                part: set(weights) for part, weights in make_encoders.WEIGHTS.items()
            }
            loss = sum(value for part in terms.values() for value in part.values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            history.append(loss.item())
    assert all(p.grad is not None for p in heads.parameters())
    assert history[-1] < 0.8 * history[0]


def test_speaker_loss_without_a_known_speaker(tmp_path):
    words = read_words([words_root(tmp_path / "tones")])
    batch = make_encoders.make_batch(words, np.array([[0, 1], [2, 3]]), np.random.default_rng(0))
    unknown = Batch(**(vars(batch) | {"speakers": torch.full((4,), -100)}))
    network = classifier_module.build("nano", ["a", "b"], 0).network.wav2vec2
    terms = make_encoders.losses(network, make_encoders.Heads(2, 2), unknown, Scale.of(unknown))
    assert terms["clip"]["speaker"] == 0


def test_command_writes_an_encoder_that_loads(tmp_path):
    root = words_root(tmp_path / "tones")
    out = tmp_path / "made" / "encoder"
    before = torch.random.get_rng_state()
    make_encoders.make([root], out, epochs=1, seed=1, max_steps=2)
    assert torch.equal(before, torch.random.get_rng_state())

    names = ("model.safetensors", "config.json", "preprocessor_config.json", "card.json")
    assert sorted(p.name for p in out.iterdir()) == sorted(names)
    card = json.loads((out / "card.json").read_text())
    classifier = classifier_module.build(str(out), ["a", "b", "c"], 0).eval()
    encoder = classifier.network.wav2vec2
    assert card["parameters"] == sum(p.numel() for p in encoder.parameters())
    assert card["data"][0]["clips"] == 16 and "not known" in card["never_seen"]
    assert {part: set(terms) for part, terms in card["final_losses"].items()} == {
        part: set(weights) for part, weights in make_encoders.WEIGHTS.items()
    }
    # the settings of pre-training are not handed on
    fresh = classifier_module.build("nano", ["a", "b", "c"], 0).network
    for name in make_encoders.CONFIG:
        saved, expected = (getattr(n.config, name) for n in (classifier.network, fresh))
        if name != "eos_token_id":
            assert list(np.atleast_1d(saved)) == list(np.atleast_1d(expected)), name
    shapes = {name: value.shape for name, value in fresh.wav2vec2.state_dict().items()}
    assert shapes == {name: value.shape for name, value in encoder.state_dict().items()}

    with pytest.raises(ParameterError, match="already holds"):
        make_encoders.make([root], out)


def test_pretraining_repeats_with_its_seed(tmp_path):
    words = read_words([words_root(tmp_path / "tones")])
    (first, losses), (again, same), (other, _) = (
        pretrain(words, epochs=2, seed=seed, max_steps=2) for seed in (0, 0, 1)
    )
    assert losses == same
    states = [network.state_dict() for network in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["feature_projection.projection.weight"],
                           states[2]["feature_projection.projection.weight"])  # fmt: skip
    assert all(value.isfinite().all() for value in states[0].values())


def test_a_run_that_was_killed_goes_on_to_the_same_encoder(tmp_path, monkeypatch):
    words = read_words([words_root(tmp_path / "tones")])
    whole, losses = pretrain(words, epochs=3, seed=4)
    resume, real = tmp_path / "state.resume", make_encoders.losses
    seen = []

    def killed(*arguments):
        seen.append(1)
        if len(seen) == 3:  # two epochs of one batch are kept
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(make_encoders, "losses", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(words, epochs=3, seed=4, work=Work(resume=resume))
    resumed, same = pretrain(words, epochs=3, seed=4, work=Work(resume=resume))
    assert len(seen) == 4 and same == losses
    states = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_steps_are_those_that_were_asked_for(tmp_path, monkeypatch):
    words = read_words([words_root(tmp_path / "tones")])
    monkeypatch.setattr(make_encoders, "BATCH_SIZE", 2)  # four batches an epoch
    batches, real = [], make_encoders.make_batch

    def noted(words, pairs, rng):
        batches.append(pairs)
        return real(words, pairs, rng)

    monkeypatch.setattr(make_encoders, "make_batch", noted)
    pretrain(words, epochs=3, max_steps=5)
    scale, *steps = batches
    assert [len(pairs) for pairs in steps] == [2] * 5
    assert sorted(np.concatenate(steps[:4]).ravel()) == list(range(16))


def test_bad_input_is_named(tmp_path):
    with pytest.raises(CorpusError, match="nowhere"):
        read_words([tmp_path / "nowhere"])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CorpusError, match=r"empty: no \.wav or \.flac"):
        read_words([empty])
    lonely = words_root(tmp_path / "lonely", words=("yes",))
    with pytest.raises(CorpusError, match=r"lonely: clips of 1 word\(s\) \['yes'\]"):
        read_words([lonely])
    few = words_root(tmp_path / "few", speakers=1, repetitions=1)
    with pytest.raises(CorpusError, match="few: 2 clips, at least 4"):
        read_words([few])
    words = read_words([words_root(tmp_path / "tones")])
    for wrong in ({"epochs": 0}, {"max_steps": 0}):
        with pytest.raises(ParameterError, match=f"{next(iter(wrong))}: 0"):
            pretrain(words, **wrong)


@pytest.mark.parametrize("name", classifier_module.carried())
def test_carried_encoder_has_a_card(name):
    folder = classifier_module.carried()[name]
    card = json.loads((folder / "card.json").read_text())
    if not list(folder.glob("*.safetensors")):
        pytest.skip(f"the weights of {name!r} are not here: {card['fetch']}")
    encoder = classifier_module.build(name, ["a", "b"], 0).network.base_model
    assert classifier_module.pretrained_on(name) == [corpus["folder"] for corpus in card["data"]]
    assert card["parameters"] == sum(p.numel() for p in encoder.parameters())
    if "final_losses" not in card:
        return  # not made by `pretrain`
    assert {part: set(terms) for part, terms in card["final_losses"].items()} == {
        part: set(weights) for part, weights in make_encoders.WEIGHTS.items()
    }
    for corpus in card["data"]:
        source = make_encoders.SOURCES[corpus["folder"]]
        assert source.items() <= corpus.items()
    assert card["never_seen"] == make_encoders.NEVER_SEEN
    assert card["hyperparameters"]["weights"] == make_encoders.WEIGHTS

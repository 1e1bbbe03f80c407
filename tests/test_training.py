"""Training is its seed and its recipe: it overfits, repeats, and survives being killed."""

import math

import numpy as np
import pytest
import tiny
import torch
from torch.nn.functional import cross_entropy

from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.models import training
from speechunlearn.models.loop import Work
from speechunlearn.models.training import Cost, Recipe, predict, train

torch.set_num_threads(1)


def recipe(**values) -> Recipe:
    return Recipe(**({"epochs": 4, "learning_rate": 1e-2, "batch_size": 4} | values))


def trained(clips: Clips, recipe: Recipe, seed: int = 0, **options) -> dict[str, torch.Tensor]:
    model = tiny.classifier()
    train(model, clips, recipe, seed=seed, **options)
    return tiny.weights(model)


def inputs_of(recipe: Recipe, clips: Clips) -> list[tuple[torch.Tensor, list[int]]]:
    """What the network is given in training: waveforms and lengths, batch by batch."""
    model, seen = tiny.classifier(), []
    model.register_forward_pre_hook(
        lambda module, args: seen.append((args[0].clone(), args[1].tolist()))
    )
    train(model, clips, recipe, seed=0)
    return seen


# ---- it trains


def loss_of(model, clips):
    return float(cross_entropy(predict(model, clips), clips.labels))


def test_a_small_encoder_overfits_eight_clips():
    model, clips = tiny.wav2vec2(2), tiny.clips(8, 2)
    history = train(
        model, clips, Recipe(epochs=30, learning_rate=1e-2, batch_size=4, schedule="one_cycle"),
        seed=0,
    )  # fmt: skip
    assert len(history) == 30 and history[-1] < 0.05 < history[0]
    assert torch.equal(predict(model, clips).argmax(1), clips.labels)
    assert not model.training


def test_the_loss_is_that_of_the_epoch():
    """Without dropout and with one step an epoch, the first loss is that of the first weights."""
    model, clips = tiny.classifier(dropout=0.0), tiny.clips(5)
    expected = loss_of(model, clips)
    history = train(model, clips, recipe(batch_size=5, epochs=2), seed=0)
    assert history[0] == pytest.approx(expected, rel=1e-5)


def test_the_mean_loss_weighs_clips_not_batches():
    """Seven clips in batches of four and three, at a learning rate too small to matter."""
    clips = tiny.clips(7)
    history = train(
        tiny.classifier(dropout=0.0), clips, recipe(epochs=1, learning_rate=1e-12), seed=0
    )
    expected = loss_of(tiny.classifier(), clips)
    assert history[0] == pytest.approx(expected, rel=1e-6)


def test_adam_takes_the_first_step_in_closed_form():
    """Adam's first step is the learning rate in the direction of the gradient's sign."""
    model, clips = tiny.classifier(dropout=0.0), tiny.clips(4)
    before = tiny.weights(model)
    train(model, clips, recipe(epochs=1, learning_rate=1e-3), seed=0)
    for name, value in tiny.weights(model).items():
        moved = (value - before[name]).abs()
        assert float(moved.max()) == pytest.approx(1e-3, rel=1e-2)


def test_the_convolutions_have_their_own_rate():
    clips, how = tiny.clips(4), recipe(epochs=1, learning_rate=1e-3, frontend_rate=0.25)
    model = tiny.wav2vec2()
    before = tiny.weights(model)
    train(model, clips, how, seed=0)
    for name, value in tiny.weights(model).items():
        largest = float((value - before[name]).abs().max())
        rate = 0.25e-3 if ".feature_extractor." in name else 1e-3
        assert largest <= 1.001 * rate, name
        if name.endswith(("conv_layers.0.conv.weight", "classifier.weight")):
            assert largest == pytest.approx(rate, rel=1e-2), name


# ---- it repeats


def test_the_seed_decides():
    clips = tiny.clips(7)
    torch.manual_seed(1)
    first = trained(clips, recipe())
    torch.manual_seed(2)
    np.random.seed(2)
    assert tiny.equal(first, trained(clips, recipe()))
    assert not tiny.equal(first, trained(clips, recipe(), seed=1))


def test_global_randomness_is_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    trained(tiny.clips(4), recipe(speeds=(0.9, 1.1)))
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])


class Killed(Exception):
    pass


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
@pytest.mark.parametrize("moment", ["between epochs", "within an epoch"])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, schedule, moment):
    clips = tiny.clips(7)
    how = recipe(epochs=5, schedule=schedule, clip_gradient=1.0, speeds=(0.9, 1.0))
    model, whole = tiny.classifier(), Work()
    expected_history = train(model, clips, how, seed=3, cost=whole)
    expected = tiny.weights(model)

    resume, model, calls = tmp_path / "training.resume", tiny.classifier(), []

    def kill_after_two(name: str, done: int, epochs: int, loss: float) -> None:
        assert (name, epochs) == ("epoch", 5)
        if moment == "between epochs" and done == 2:
            raise Killed

    def kill_in_the_third(module, args):
        calls.append(None)
        if moment == "within an epoch" and len(calls) == 6:  # two batches an epoch
            raise Killed

    model.register_forward_pre_hook(kill_in_the_third)
    with pytest.raises(Killed):
        train(model, clips, how, seed=3, cost=Work(progress=kill_after_two, resume=resume))
    assert [path.name for path in tmp_path.iterdir()] == ["training.resume"]

    model, reports = tiny.classifier(seed=9), []
    work = Work(progress=lambda *report: reports.append(report[1]), resume=resume)
    history = train(model, clips, how, seed=3, cost=work)
    assert work.kept_seconds > 0
    assert reports == [3, 4, 5]
    assert history == expected_history
    assert tiny.equal(expected, tiny.weights(model))
    # what the result cost, whoever paid for it
    assert work.counted() == whole.counted() == Cost(forward_backward=5 * 7)


def test_a_finished_run_is_not_repeated(tmp_path):
    clips, resume = tiny.clips(4), tmp_path / "training.resume"
    expected = trained(clips, recipe(), cost=Work(resume=resume))
    reports = []
    work = Work(progress=lambda *report: reports.append(report), resume=resume)
    again = trained(clips, recipe(), cost=work)
    assert tiny.equal(expected, again) and reports == []


# ---- augmentation


def test_speeds_change_the_length():
    clips = tiny.clips(4)
    ((_, lengths),) = inputs_of(recipe(epochs=1), clips)
    ((waveform_z, faster),) = inputs_of(recipe(epochs=1, speeds=(1.25,)), clips)
    assert faster == [pytest.approx(length / 1.25, abs=1) for length in lengths]
    for row, length in enumerate(faster):
        assert (waveform_z[row, length:] == 0).all()
        # normalised anew: what the filter took is given back
        assert float(waveform_z[row, :length].std(correction=0)) == pytest.approx(1, abs=1e-3)
    # one speed a clip and epoch, each of them in turn
    seen = inputs_of(recipe(epochs=12, speeds=(1.0, 1.25)), clips.at([0]))
    assert {length for _, (length,) in seen} == {clips.lengths[0], round(clips.lengths[0] / 1.25)}


def test_speed_raises_the_pitch():
    tone = torch.sin(2 * math.pi * 0.05 * torch.arange(1600))
    fast = training._change_speed(tone, (1.25,), torch.Generator())
    spectrum = np.abs(np.fft.rfft(fast.numpy() * np.hanning(len(fast))))
    assert spectrum.argmax() / len(fast) == pytest.approx(0.05 * 1.25, abs=1e-3)
    assert training._change_speed(tone, (1.0,), torch.Generator()) is tone


def test_clean_epochs_see_the_clips_themselves():
    clips = tiny.clips(6)
    plain = trained(clips, recipe())
    assert tiny.equal(plain, trained(clips, recipe(clean_epochs=4, speeds=(0.9, 1.1))))
    assert not tiny.equal(plain, trained(clips, recipe(clean_epochs=3, speeds=(0.9, 1.1))))


#: half of the frames masked
MASKS = {"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_length": 2}


def with_masks(recipe: Recipe, **options) -> tuple[dict[str, torch.Tensor], bool]:
    model = tiny.wav2vec2(**MASKS)
    train(model, tiny.clips(4), recipe, seed=0, **options)
    return tiny.weights(model), model.network.config.apply_spec_augment


def test_clean_epochs_are_without_spec_augment(tmp_path):
    model = tiny.wav2vec2(**(MASKS | {"apply_spec_augment": False}))
    train(model, tiny.clips(4), recipe(epochs=2), seed=0)
    plain, (clean, after_clean) = tiny.weights(model), with_masks(recipe(epochs=2, clean_epochs=2))
    assert tiny.equal(plain, clean)
    masked, after_masked = with_masks(recipe(epochs=2))
    assert not tiny.equal(plain, masked)
    # the setting is given back; also by a run that was killed when all its epochs were done
    assert after_clean and after_masked
    resume = tmp_path / "training.resume"
    expected, _ = with_masks(recipe(epochs=2, clean_epochs=1), cost=Work(resume=resume))
    weights, after = with_masks(recipe(epochs=2, clean_epochs=1), cost=Work(resume=resume))
    assert tiny.equal(expected, weights) and after


# ---- batches of a large model


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_batch_that_is_cut_has_the_gradient_of_its_pieces(monkeypatch, mode):
    """In train mode dropout and SpecAugment draw: a piece that is computed again draws the same."""
    clips, piece = tiny.clips(5), [[0, 1], [2, 3], [4]]

    def gradients(ask) -> tuple[torch.Tensor, list[torch.Tensor], float]:
        model = tiny.wav2vec2(hidden_dropout=0.3, **MASKS).train(mode == "train")
        torch.manual_seed(0)
        np.random.seed(0)
        logits = ask(model)
        cross_entropy(logits, clips.labels).backward()
        grown = [p.grad for p in model.parameters() if p.grad is not None]
        return logits.detach(), grown, np.random.random()

    pieces = gradients(lambda m: torch.cat([m(*clips.batch(part)) for part in piece]))
    monkeypatch.setattr(training, "at_once", lambda model: 2 * max(clips.lengths))
    calls = []
    cut = gradients(lambda m: (
        m.register_forward_pre_hook(lambda *_: calls.append(1)),
        training.logits_of(m, clips, range(5)),
    )[1])
    assert len(calls) == 2 * len(piece)  # each once more on the way back
    torch.testing.assert_close(cut[:2], pieces[:2], rtol=1e-5, atol=1e-7)
    assert cut[2] == pieces[2]


def test_a_large_model_takes_few_samples_at_once():
    small, base = torch.nn.Linear(10, 10), torch.nn.Linear(95, 1_000_000, device="meta")
    assert training.at_once(small) > 10**9
    assert 15 < training.at_once(base) / 16_000 < 25
    assert training.pieces(base, [160_000, 80_000, 160_000], [0, 1, 2]) == [[0, 1], [2]]


# ---- errors


@pytest.mark.parametrize(
    "name, value",
    [
        ("epochs", 0), ("batch_size", 0), ("learning_rate", 0.0), ("learning_rate", -1e-3),
        ("schedule", "cosine"),
    ],
)  # fmt: skip
def test_bad_recipes_are_named(name, value):
    with pytest.raises(ParameterError, match=f"{name}: '?{value}"):
        Recipe(**{name: value})


def test_the_defaults_are_the_papers():
    paper = Recipe()
    assert (paper.epochs, paper.learning_rate, paper.batch_size) == (20, 3e-5, 16)
    assert paper.schedule == "constant" and paper.weight_decay == 0
    assert paper.clip_gradient is None and paper.frontend_rate == 1 and paper.speeds == (1.0,)


def test_a_loss_that_is_no_number_stops_training(tmp_path):
    model = tiny.classifier()
    with torch.no_grad():
        model.network.head.bias[0] = float("nan")
    resume = tmp_path / "training.resume"
    with pytest.raises(ParameterError, match=r"nan after epoch 1.*learning_rate \(0.01\)"):
        train(model, tiny.clips(4), recipe(), seed=0, cost=Work(resume=resume))
    # nothing is kept that a later run would go on from
    assert not resume.exists()


def test_nothing_to_train_on():
    with pytest.raises(ParameterError, match="clips"):
        train(tiny.classifier(), tiny.clips(0), recipe(), seed=0)


def test_nothing_to_predict():
    with pytest.raises(ParameterError, match="clips"):
        predict(tiny.classifier(), tiny.clips(0))


# ---- prediction


@pytest.mark.parametrize("was_training", [True, False])
def test_predict_keeps_order_and_mode(was_training):
    model, clips, cost = tiny.wav2vec2().train(was_training), tiny.clips(7), Cost()
    logits = predict(model, clips, batch_size=3, cost=cost)
    assert all(module.training == was_training for module in model.modules())
    assert cost == Cost(forward=7)
    assert logits.shape == (7, 3) and not logits.requires_grad and not logits.is_inference()
    model.eval()
    with torch.no_grad():
        alone = torch.cat([model(*clips.batch([i])) for i in range(7)])
    torch.testing.assert_close(logits, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(predict(model, clips, batch_size=1), alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(predict(model, clips, batch_size=99), alone, rtol=0, atol=1e-5)


def test_predict_is_free_of_dropout():
    model, clips = tiny.classifier(dropout=0.5).train(), tiny.clips(5)
    assert torch.equal(predict(model, clips), predict(model, clips))


def test_a_quick_recipe_trains_to_the_same_answers_but_for_rounding():
    # weights that no answer depends on (the bias of keys) go where rounding sends them: the
    # answers are compared
    histories, answers = [], []
    for fast in (False, True):
        model = tiny.wav2vec2(seed=1)
        asked = recipe(epochs=3, learning_rate=1e-3, fast=fast)
        histories.append(train(model, tiny.clips(12), asked, seed=0))
        answers.append(predict(model, tiny.clips(12, seed=5)))
        assert all("forward" not in vars(module) for module in model.modules())
    assert histories[1] == pytest.approx(histories[0], rel=1e-4)
    assert histories[1] != histories[0]  # it was computed otherwise
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-3, atol=1e-3)

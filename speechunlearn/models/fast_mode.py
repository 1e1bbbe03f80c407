"""The same networks, computed faster: what a processor spends its time on besides products.

transformers' speech encoders hold a convolution's frames as ``[batch, channels, frames]`` but
normalise over the channels, so that GELU and its gradient run over transposed memory, several times
slower. They count a clip's samples with a cumulative sum over the waveform; their fused attention
is slow for the short sequences and narrow heads of a small encoder; dropout draws one number at a
time. And two cores that share each small product wait for each other more than two that each have
a batch of their own. `fast` changes all that, and no formula.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar
from types import MethodType
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from speechunlearn.dataset.clips import Lengths, Logits, Waveforms
from speechunlearn.errors import ParameterError

Item = TypeVar("Item")
Result = TypeVar("Result")

Frames = Float[Tensor, "batch time channels"]
Channels = Float[Tensor, "batch channels time"]
Kernel = Float[Tensor, "out channels kernel"]
Heads = Float[Tensor, "batch heads time width"]

ATTENTION = "speechunlearn"  # its name among transformers' attention functions


class _State(NamedTuple):
    """What `fast` has set up.

    Attributes:
        is_on: whether it has
        pool: threads that a batch each is given to; None where there is one worker
        workers: batches computed at once
        draws: whether the network draws from a generator that is not a thread's own

    """

    is_on: bool = False
    pool: ThreadPoolExecutor | None = None
    workers: int = 1
    draws: bool = False


_STATE: ContextVar[_State] = ContextVar("fast")
_OFF = _State()
_OWN = threading.local()  # .generator: what dropout draws from in this thread


@contextlib.contextmanager
def fast(model: torch.nn.Module, workers: int | None = None) -> Iterator[None]:
    """Compute a model's answers and gradients faster inside the block; give it back as it was.

    In float32 logits and gradients equal those outside to about 1e-5 of their size: sums are taken
    in another order. Dropout draws other numbers of the same distribution (its rate is rounded to
    a multiple of 2^-16). Whatever is drawn depends on torch's seed, not on how threads take turns.
    Modules that are not known, or lie on a GPU, whose libraries choose layouts themselves, are
    left alone: any model may be given.

    Args:
        model: changed in place while the block runs; copies made inside stay fast
        workers: batches computed at once, each by one thread; None is as many as torch has
            threads, or one on a GPU

    Raises:
        ParameterError: fewer than one worker

    """
    if workers is not None and workers < 1:
        raise ParameterError(f"workers: {workers} is not positive")
    on_cpu = all(tensor.device.type == "cpu" for tensor in model.parameters())
    count = workers or (torch.get_num_threads() if on_cpu else 1)
    with contextlib.ExitStack() as stack:

        def replace(module: Any, name: str, function: Any) -> None:
            if name not in vars(module):  # a block inside a block changes nothing
                setattr(module, name, MethodType(function, module))
                stack.callback(delattr, module, name)

        pool = stack.enter_context(ThreadPoolExecutor(count)) if count > 1 else None
        token = _STATE.set(_State(True, pool, count, _draws_elsewhere(model)))
        stack.callback(_STATE.reset, token)
        for module in list(model.modules()):
            if hasattr(getattr(module, "network", None), "_get_feature_vector_attention_mask"):
                # a classifier of the tool's says in its forward what the network raised
                name = "logits" if hasattr(module, "logits") else "forward"
                replace(module, name, _by_lengths)
            if not on_cpu:
                continue
            if isinstance(module, torch.nn.Conv1d):
                plain = (module.groups, module.padding, module.dilation) == (1, (0,), (1,))
                if plain and type(module) is torch.nn.Conv1d:
                    replace(module, "forward", _by_windows)
                elif (
                    module.groups > 1 and module.padding_mode == "zeros"
                    and isinstance(module.padding, tuple)
                ):
                    replace(module, "forward", _channels_last)
            elif type(module) is torch.nn.Dropout:
                replace(module, "forward", _dropout)
            config: Any = getattr(module, "config", None)
            if getattr(config, "_attn_implementation", None) == "sdpa":
                _register_attention()
                config._attn_implementation = ATTENTION
                stack.callback(setattr, config, "_attn_implementation", "sdpa")
        yield


def is_on() -> bool:
    """Whether this is inside a block of `fast`."""
    return _STATE.get(_OFF).is_on


def workers() -> int:
    """Return how many batches are computed at once here: one outside of a block of `fast`."""
    return _STATE.get(_OFF).workers


def splits(model: torch.nn.Module) -> bool:
    """Whether `total` gives each loss of the model to a thread of its own here."""
    state = _STATE.get(_OFF)
    return state.pool is not None and not (state.draws and model.training)


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the function's result for each item, in order; inside `fast`, several at once.

    Args:
        function: must not draw from torch's global generator, nor change what another call reads
        items: what it is called with

    """
    pool, threads = _STATE.get(_OFF).pool, torch.get_num_threads()
    if pool is None:
        yield from map(function, items)
        return

    def alone(item: Item) -> Result:
        torch.set_num_threads(1)
        return function(item)

    futures = [pool.submit(alone, item) for item in items]
    try:
        for future in futures:
            yield future.result()
    finally:
        # none runs on when the block is left
        wait([future for future in futures if not future.cancel()])
        torch.set_num_threads(threads)


def total(parts: Sequence[Callable[[], Tensor]], model: torch.nn.Module) -> Float[Tensor, ""]:
    """Return the sum of some losses; inside `fast`, each with its gradients in its own thread.

    Args:
        parts: each computes a loss, with a graph to the model's weights
        model: whose weights are learned

    Returns:
        the sum; its backward adds to the gradients of the weights

    """
    if not splits(model):
        return torch.stack([part() for part in parts]).sum()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    seeds = torch.randint(2**62, (len(parts),)).tolist()

    def one(position: int) -> tuple[Tensor, Sequence[Tensor | None]]:
        _OWN.generator = torch.Generator().manual_seed(seeds[position])
        try:
            value = parts[position]()
            return value.detach(), torch.autograd.grad(value, weights, allow_unused=True)
        finally:
            del _OWN.generator

    values, gradients = zip(*in_parallel(one, range(len(parts))), strict=True)
    by_parameter = [[own for own in of if own is not None] for of in zip(*gradients, strict=True)]
    summed = [torch.stack(of).sum(0) if len(of) > 1 else (*of, None)[0] for of in by_parameter]
    return _Computed.apply(torch.stack(values).sum(), summed, *weights)


class _Computed(torch.autograd.Function):
    """A loss whose gradients are known already."""

    @staticmethod
    def forward(
        ctx: Any, value: Float[Tensor, ""], gradients: list[Tensor | None], *weights: Tensor
    ) -> Float[Tensor, ""]:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if of is None else of * outer[0] for of in ctx.gradients]
        return None, None, *scaled


def _draws_elsewhere(model: torch.nn.Module) -> bool:
    """Whether a network in training draws what is not dropout: layers left out, SpecAugment."""
    for module in model.modules():
        config = getattr(module, "config", None)
        drawn = ["layerdrop"]
        if getattr(config, "apply_spec_augment", False):
            drawn += ["mask_time_prob", "mask_feature_prob"]
        dropout = isinstance(module, torch.nn.modules.dropout._DropoutNd)
        if any(getattr(config, rate, 0) > 0 for rate in drawn) or (
            dropout and type(module) is not torch.nn.Dropout
        ):
            return True
    return False


# ---- convolutions


class Windows(torch.autograd.Function):
    """A convolution over frames, as a product of windows and weights."""

    @staticmethod
    def forward(
        ctx: Any, frames: Frames, weight: Kernel, bias: Float[Tensor, " out"] | None, stride: int
    ) -> Float[Tensor, "batch frames out"]:
        ctx.save_for_backward(frames, weight)
        ctx.stride, ctx.with_bias = stride, bias is not None
        windows = _windows(frames, weight.shape[2], stride)
        out = torch.nn.functional.linear(windows.flatten(0, 1), _flat(weight), bias)
        return out.view(*windows.shape[:2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        frames, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        out, channels, kernel = weight.shape
        of_frames = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_frames = _unwindow(gradient, _flat(weight), frames, kernel, ctx.stride)
        flat = gradient.flatten(0, 1)
        if ctx.needs_input_grad[1]:
            windows = _windows(frames, kernel, ctx.stride).flatten(0, 1)
            of_weight = (flat.t() @ windows).view(out, kernel, channels).transpose(1, 2)
        if ctx.with_bias and ctx.needs_input_grad[2]:
            of_bias = flat.sum(0)
        return of_frames, of_weight, of_bias, None


def _flat(weight: Kernel) -> Float[Tensor, "out window"]:
    return weight.transpose(1, 2).flatten(1)


def _windows(frames: Frames, kernel: int, stride: int) -> Float[Tensor, "batch frames window"]:
    """Return a view: what each output frame sees lies in one piece of memory."""
    batch, time, channels = frames.shape
    return frames.as_strided(
        (batch, (time - kernel) // stride + 1, kernel * channels),
        (time * channels, stride * channels, 1),
        frames.storage_offset(),
    )


def _unwindow(
    gradient: Float[Tensor, "batch frames out"],
    flat: Float[Tensor, "out window"],
    frames: Frames,
    kernel: int,
    stride: int,
) -> Frames:
    """Add each window's gradient to the frames that it saw."""
    batch, time, channels = frames.shape
    count = gradient.shape[1]
    result = torch.zeros_like(frames)
    for first in range(0, kernel, stride):
        # as many taps as the stride: windows do not overlap, and can be written at once
        start, stop = first * channels, min(first + stride, kernel) * channels
        place = result.as_strided(
            (batch, count, stop - start), (time * channels, stride * channels, 1), start
        )
        place.baddbmm_(gradient, flat[:, start:stop].expand(batch, -1, -1))
    return result


def _by_windows(self: torch.nn.Conv1d, samples: Channels) -> Float[Tensor, "batch out frames"]:
    """Stand in for the forward of a convolution; the result lies in memory frame by frame."""
    tensors: list[Tensor | None] = [samples, self.weight, self.bias]
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        tensors = [tensor if tensor is None else tensor.to(dtype) for tensor in tensors]
    x, weight, bias = tensors
    assert x is not None
    frames = x.transpose(1, 2).contiguous()
    return Windows.apply(frames, weight, bias, self.stride[0]).transpose(1, 2)


def _channels_last(self: torch.nn.Conv1d, frames: Channels) -> Float[Tensor, "batch out frames"]:
    """Stand in for the forward of a grouped convolution."""
    out = torch.nn.functional.conv2d(
        frames[:, :, None].contiguous(memory_format=torch.channels_last),
        self.weight[:, :, None].contiguous(memory_format=torch.channels_last),
        self.bias, (1, *self.stride), (0, *self.padding), (1, *self.dilation), self.groups,
    )  # fmt: skip
    return out[:, :, 0]


# ---- masks, attention, dropout


def _by_lengths(self: Any, waveform_z: Waveforms, lengths: Lengths) -> Logits:
    """Stand in for a classifier's forward.

    transformers only sums a mask over the samples: one entry of the length does, and none where
    nothing is padded.
    """
    mask = None
    if self.frontend.return_attention_mask and bool((lengths < waveform_z.shape[1]).any()):
        mask = lengths[:, None]
    unit = getattr(self, "unit", 1.0)  # of a classifier that takes waveforms as they are
    scaled = waveform_z * unit if unit != 1 else waveform_z
    return self.network(scaled, attention_mask=mask).logits


def _register_attention() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, eager_mask)


def _attend(
    module: torch.nn.Module,
    query: Heads,
    key: Heads,
    value: Heads,
    attention_mask: Float[Tensor, "#batch 1 #time time"] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Float[Tensor, "batch time heads width"], Float[Tensor, "batch heads time time"]]:
    """Attention as three products: faster than the fused one where heads are narrow."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query * scale) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = _dropped(scores.softmax(-1), dropout) if dropout > 0 else scores.softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _dropout(self: torch.nn.Dropout, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Stand in for the forward of dropout."""
    return _dropped(x, self.p) if self.training and self.p > 0 else x


def _dropped(x: Float[Tensor, "*shape"], rate: float) -> Float[Tensor, "*shape"]:
    """Drop elements by four from one 64-bit number; the rate is rounded to 2^-16."""
    dropped, count = round(rate * 2**16), x.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64)
    # from the lowest number: without it, the sign bit would always be zero
    least = torch.iinfo(torch.int64).min
    bits.random_(least, None, generator=getattr(_OWN, "generator", None))
    keep = bits.view(torch.int16)[:count].view(x.shape) >= dropped - 2**15
    share = 1 - dropped / 2**16
    return x * keep.to(x.dtype).mul_(1 / share) if share > 0 else x * 0

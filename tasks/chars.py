"""A small GPT that learns to write English, character by character."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from ..algorithms.options import OptionValue, describe_options, read_options, require
from . import gpt, initialise, text
from .errors import BadData
from .fingerprint import fingerprint
from .layers import Layer
from .staged import Staged
from .task import Indices

HELD_OUT_FRACTION: Final = 0.1
N_EVALUATION_WINDOWS: Final = 64
TEMPERATURE: Final = 0.8
SAMPLING_CONTEXT: Final = 64
"""A sample is for a person to look at: a shorter memory makes it several times faster."""


@dataclass(frozen=True, kw_only=True)
class CharsOptions:
    """Options of `chars`. The defaults make about a million parameters."""

    d_model: int = 128
    n_layers: int = 5
    n_heads: int = 4
    context: int = 128
    """Characters that the model sees; a sample is a window of this many predictions."""

    def __post_init__(self) -> None:
        require(1 <= self.n_heads <= 64, "n_heads", "between 1 and 64", self.n_heads)
        fits = 8 <= self.d_model <= 4096 and self.d_model % self.n_heads == 0
        require(fits, "d_model", f"between 8 and 4096 and a multiple of n_heads = {self.n_heads}", self.d_model)
        require(1 <= self.n_layers <= 64, "n_layers", "between 1 and 64", self.n_layers)
        require(8 <= self.context <= 4096, "context", "between 8 and 4096", self.context)


class Chars(Staged):
    """Next-character prediction; the last tenth of the text is held out. Losses are in nats per character."""

    name = "chars"

    def __init__(self, *, options: Mapping[str, OptionValue], data: Path | None = None) -> None:
        self._options = read_options(CharsOptions, options, owner="task 'chars'")
        self._text = text.read_text(data)
        self._corpus = text.build_corpus(self._text)
        tokens = torch.from_numpy(self._corpus.tokens)
        n_held_out = int(len(tokens) * HELD_OUT_FRACTION)
        self._train, self._held_out = tokens[: len(tokens) - n_held_out], tokens[len(tokens) - n_held_out :]
        if n_held_out <= self._options.context:
            wanted = int((self._options.context + 1) / HELD_OUT_FRACTION) + 10
            raise BadData(f"the text has {len(tokens)} characters, at least {wanted} are needed: pass a longer one")

    @property
    def n_train(self) -> int:
        return len(self._train) - self._options.context

    @property
    def n_vocabulary(self) -> int:
        return len(self._corpus.characters)

    def build_model(self, seed: int) -> torch.nn.Module:
        return gpt.build_gpt(self._shape, seed)

    def build_skeleton(self) -> torch.nn.Module:
        return initialise.build_without_memory(self._shape.build)

    def build_part(self, seed: int, paths: Collection[str]) -> torch.nn.Module:
        return gpt.build_gpt(self._shape, seed, keep=paths)

    def layers(self, model: torch.nn.Module) -> tuple[Layer, ...]:
        return gpt.gpt_layers(self._options.n_layers)

    def inputs(self, indices: Indices) -> torch.Tensor:
        return self._windows(self._train, torch.from_numpy(indices))[:, :-1]

    def targets(self, indices: Indices) -> torch.Tensor:
        return self._windows(self._train, torch.from_numpy(indices))[:, 1:]

    def output_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    def held_out_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        n_windows = min(N_EVALUATION_WINDOWS, (len(self._held_out) - 1) // self._options.context)
        last = len(self._held_out) - self._options.context - 1
        starts = torch.from_numpy(np.linspace(0, last, n_windows).astype(np.int64))
        windows = self._windows(self._held_out, starts)
        return windows[:, :-1], windows[:, 1:]

    def fingerprint(self) -> str:
        sources = (Chars, Staged, gpt.GPT, initialise.build_initialised, text.Corpus)
        return fingerprint(sources=sources, options=describe_options(self._options), data=[self._text.encode()])

    def flops_per_sample(self) -> float:
        o = self._options
        n_weights = o.n_layers * 12 * o.d_model**2 + self.n_vocabulary * o.d_model
        return 6.0 * o.context * (n_weights + 2 * o.n_layers * o.context * o.d_model)

    @torch.no_grad()
    def sample_text(self, model: torch.nn.Module, *, seed: int, n_chars: int = 300) -> str:
        if not isinstance(model, gpt.GPT):
            raise TypeError(f"chars can only sample from its own GPT, not from {type(model).__name__}")
        generator = torch.Generator().manual_seed(seed)
        window = min(SAMPLING_CONTEXT, self._options.context)
        tokens = self._held_out[:window].clone()
        for _ in range(n_chars):
            probabilities = (model.next_logits(tokens[None, -window:])[0] / TEMPERATURE).softmax(0)
            tokens = torch.cat([tokens, torch.multinomial(probabilities, 1, generator=generator)])
        return self._corpus.decode(tokens[window:].numpy())

    @property
    def _shape(self) -> gpt.Shape:
        o = self._options
        return gpt.Shape(
            n_vocabulary=self.n_vocabulary,
            context=o.context,
            d_model=o.d_model,
            n_layers=o.n_layers,
            n_heads=o.n_heads,
        )

    def _windows(self, tokens: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """Tokens [n, context + 1] from each start: inputs, and shifted by one the targets."""
        return tokens[starts[:, None] + torch.arange(self._options.context + 1)]

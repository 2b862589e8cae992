"""A small GPT: pre-norm blocks, learned positions, tied embeddings, no biases, no dropout."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .initialise import build_initialised
from .layers import Layer


class Block(nn.Module):
    """Attention and a two-layer network, each added to what came in."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1 = nn.LayerNorm(d_model, bias=False)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.attention_out = nn.Linear(d_model, d_model, bias=False)
        self.norm2 = nn.LayerNorm(d_model, bias=False)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.norm1(x))
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        n_batch, n_tokens, d_model = x.shape
        heads = self.qkv(x).view(n_batch, n_tokens, 3, self.n_heads, d_model // self.n_heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.attention_out(mixed.transpose(1, 2).reshape(n_batch, n_tokens, d_model))
        return out


class GPT(nn.Module):
    """Maps token ids [n, t] with t <= context to logits [n, t, n_vocabulary]."""

    def __init__(self, *, n_vocabulary: int, context: int, d_model: int, n_layers: int, n_heads: int) -> None:
        super().__init__()
        self.token = nn.Embedding(n_vocabulary, d_model)
        self.position = nn.Embedding(context, d_model)
        self.blocks = nn.ModuleList([Block(d_model, n_heads) for _ in range(n_layers)])
        self.norm = nn.LayerNorm(d_model, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(self.hidden(tokens), self.token.weight)

    def next_logits(self, tokens: Tensor) -> Tensor:
        """Logits of what follows, [n, n_vocabulary]."""
        return F.linear(self.hidden(tokens)[:, -1], self.token.weight)

    def hidden(self, tokens: Tensor) -> Tensor:
        """The last layer's output, [n, t, d_model]."""
        x = _run_embedding((self.token, self.position), tokens)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a GPT."""

    n_vocabulary: int
    context: int
    d_model: int
    n_layers: int
    n_heads: int

    def build(self) -> GPT:
        return GPT(
            n_vocabulary=self.n_vocabulary,
            context=self.context,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
        )


def build_gpt(shape: Shape, seed: int, *, keep: Collection[str] | None = None) -> nn.Module:
    """A GPT whose weights follow from the seed: normal with deviation .02, less where a layer adds to the residual.

    Args:
        keep: as for `build_initialised`.
    """
    model = build_initialised(shape.build, seed, draw=_draw, keep=keep)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("attention_out.weight", "down.weight")):
                parameter.div_(math.sqrt(2 * shape.n_layers))
    return model


def gpt_layers(n_layers: int) -> tuple[Layer, ...]:
    """The embedding, each block, and the head, which shares the embedding's weights."""
    blocks = [Layer(name=f"block {i}", uses=(f"blocks.{i}",), run=_run_block) for i in range(n_layers)]
    return (
        Layer(name="embedding", uses=("token", "position"), run=_run_embedding),
        *blocks,
        Layer(name="head", uses=("norm", "token"), run=_run_head),
    )


def _run_embedding(modules: Sequence[nn.Module], tokens: Tensor) -> Tensor:
    token, position = modules
    assert isinstance(position, nn.Embedding)
    out: Tensor = token(tokens) + position.weight[: tokens.shape[1]]
    return out


def _run_block(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    (block,) = modules
    out: Tensor = block(x)
    return out


def _run_head(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    norm, token = modules
    assert isinstance(token, nn.Embedding)
    return F.linear(norm(x), token.weight)


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        module.weight.normal_(0.0, 0.02, generator=generator)
    elif isinstance(module, nn.LayerNorm):
        module.reset_parameters()
    else:
        raise TypeError(f"no rule for the initial weights of {type(module).__name__}")

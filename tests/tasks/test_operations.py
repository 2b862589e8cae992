"""Operations, counted."""

from __future__ import annotations

import torch
from torch import nn

from gossamer.tasks.operations import OperationCounter


def test_products_are_counted_by_hand() -> None:
    x, image = torch.zeros(5, 7, 3), torch.zeros(2, 4, 9, 9)
    linear, convolution = nn.Linear(3, 11), nn.Conv2d(4, 6, 3)
    q, k = torch.zeros(2, 3, 8, 4), torch.zeros(2, 3, 16, 4)

    counts = []
    for work in (
        lambda: linear(x),
        lambda: convolution(image),
        lambda: torch.bmm(x, x.transpose(1, 2)),
        lambda: nn.functional.scaled_dot_product_attention(q, k, k),
    ):
        with torch.no_grad(), OperationCounter() as counter:
            work()
        counts.append(counter.n_products)

    assert counts == [
        2 * 5 * 7 * 3 * 11,
        2 * (2 * 6 * 7 * 7) * (4 * 3 * 3),
        2 * 5 * 7 * 7 * 3,
        2 * (2 * 3) * 8 * 16 * (4 + 4),
    ]


def test_backward_passes_multiply_twice_as_often() -> None:
    image = torch.zeros(2, 4, 9, 9, requires_grad=True)
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6 * 49, 5))

    with OperationCounter() as forward:
        out = model(image).sum()
    with OperationCounter() as backward:
        out.backward()

    assert backward.n_products == 2 * forward.n_products


def test_other_operations_count_what_they_write_and_views_nothing() -> None:
    x = torch.zeros(5, 4)

    with OperationCounter() as counter:
        x.t()[1:].relu()

    assert (counter.n_written, counter.n_products, counter.flops) == (15, 0, 15.0)

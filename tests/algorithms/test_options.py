"""Options and the registry of methods."""

from __future__ import annotations

import pytest
import torch

from gossamer.algorithms import BadOption, NoSuchMethod, Schedule, UnknownOption, build_method, check_options
from gossamer.algorithms.demo import DeMoOptions
from gossamer.algorithms.options import read_options

PARAMETERS = {"w": torch.zeros(3)}


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(NoSuchMethod, match="did you mean 'demo'"):
        build_method("dmeo", PARAMETERS, {}, Schedule(lr=0.1))


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'value_bits'"):
        check_options("demo", {"value_bit": 8})


@pytest.mark.parametrize(
    "values", [{"k": 32.5}, {"k": True}, {"k": "32"}, {"k": 0}, {"tile": 65}, {"beta": 1.0}, {"value_bits": 4}]
)
def test_a_value_of_the_wrong_type_or_out_of_bounds_is_refused(values: dict[str, float]) -> None:
    (name,) = values

    with pytest.raises(BadOption, match=name):
        read_options(DeMoOptions, values, owner="method 'demo'")


def test_a_whole_number_will_do_where_a_fraction_is_meant() -> None:
    options = read_options(DeMoOptions, {"beta": 0}, owner="method 'demo'")

    assert options.beta == 0.0
    assert type(options.beta) is float


def test_every_method_says_what_it_is() -> None:
    for name in ("demo", "allreduce"):
        method = build_method(name, PARAMETERS, {}, Schedule(lr=0.1))

        assert method.describe()["method"] == name == method.name
        assert 0 < method.default_lr < 1

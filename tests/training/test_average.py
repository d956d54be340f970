"""The running mean of weights."""

import torch
from torch import nn

from skxc.training._average import WeightAverage


def set_to(module, value):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def values(module):
    return {float(parameter.detach().flatten()[0]) for parameter in module.parameters()}


def test_mean_of_what_was_added():
    module = nn.Linear(2, 3)
    average = WeightAverage(module)
    assert not average.started
    for value in (1.0, 2.0, 6.0):
        set_to(module, value)
        average.add()
    set_to(module, 50.0)
    with average.swapped_in():
        assert values(module) == {3.0}
    assert values(module) == {50.0}
    average.copy_to_module()
    assert values(module) == {3.0}


def test_without_anything_added_the_module_stays():
    module = nn.Linear(2, 3)
    set_to(module, 4.0)
    average = WeightAverage(module)
    with average.swapped_in():
        assert values(module) == {4.0}
    average.copy_to_module()
    assert values(module) == {4.0}


def test_it_is_part_of_a_state_and_not_of_the_parameters():
    module = nn.Sequential(nn.Linear(2, 3))
    average = WeightAverage(module)
    set_to(module, 2.0)
    average.add()
    assert not list(average.parameters())
    other = WeightAverage(nn.Sequential(nn.Linear(2, 3)))
    other.load_state_dict(average.state_dict())
    other.copy_to_module()
    assert values(other._source[0]) == {2.0}

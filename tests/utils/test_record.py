import copy
import pickle
from dataclasses import dataclass
from functools import cached_property

import pytest

from skxc.utils._record import Record


@dataclass(frozen=True)
class Square(Record):
    side: int

    @cached_property
    def area(self):
        return self.side**2


@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_what_is_derived_is_no_part_of_the_state(twin):
    square = Square(3)
    assert square.area == 9
    other = twin(square)
    assert vars(other) == {"side": 3}
    assert (other, other.area) == (square, 9)

"""Save and load models without pickles, and states of a training that can be resumed."""

from skxc.persistence._checkpoint import read_state, write_state
from skxc.persistence._save_load import load, save

__all__ = ["load", "read_state", "save", "write_state"]

"""List algebra: lists of labels are joined, scored, ranked, and voted on by near training rows."""

from skxc.ranking._pairs import inner_products, rank_pairs, union_of_lists
from skxc.ranking._votes import NeighborVotes, Votes, add_votes, neighbor_votes

__all__ = [
    "NeighborVotes",
    "Votes",
    "add_votes",
    "inner_products",
    "neighbor_votes",
    "rank_pairs",
    "union_of_lists",
]

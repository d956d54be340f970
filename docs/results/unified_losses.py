"""Other losses of UnifiedXC than the sum of both heads', on held-out training rows.

    python docs/results/unified_losses.py FOLDER HOLD_OUT

"joint" trains the dual encoder beside the sum of both cosines, so that the classifier learns what
the text lacks; "joint only" trains that sum alone; "frequency" adds the logarithm of a label's rows
to the logits in training, as prediction does.
"""

import sys

import numpy as np
import torch
from unified_heads import fit, measure

from skxc import benchmark
from skxc.estimators._unified.task import UnifiedTask
from skxc.training._label_table import unit_rows
from skxc.utils._unit_length import unit_length


def sides(task, vectors, pool):
    """Return queries and labels of the dual encoder, and those of the classifier."""
    n_queries = len(pool.rows)
    queries, texts = vectors[:n_queries], vectors[n_queries:]
    text = task.heads.against_texts(queries), task.heads.against_texts(texts)
    label = unit_length(task.heads.against_labels(queries)), unit_rows(task.table(pool.labels))
    return text, label


def joint(share):
    """Return a loss with this share of the dual encoder's own and the rest of the sum's."""

    def loss(task, vectors, pool):
        text, label = sides(task, vectors, pool)
        both = [torch.cat(parts, dim=1) for parts in zip(text, label, strict=True)]
        total = (1 - share) * task.pool_loss(*both, pool)
        return total + share * task.pool_loss(*text, pool) if share else total

    return loss


def frequency(weight):
    """Return the usual loss with logits raised by weight * log(1 + rows of the label)."""

    def loss(task, vectors, pool):
        counts = np.bincount(task.y.indices, minlength=task.y.shape[1])[pool.labels]
        raised = weight * task.temperature * np.log1p(counts)
        column = torch.from_numpy(raised.astype(np.float32))[:, None]
        parts = []
        for queries, labels in sides(task, vectors, pool):
            ones = torch.ones(len(queries), 1)
            raised = torch.cat([queries, ones], dim=1), torch.cat([labels, column], dim=1)
            parts.append(task.pool_loss(*raised, pool))
        return sum(parts) / 2

    return loss


LOSSES = {
    "usual": UnifiedTask._loss_of,
    "joint": joint(0.5),
    "joint only": joint(0.0),
    "frequency 0.5": frequency(0.5),
    "frequency 1": frequency(1.0),
}


def main():
    folder, n_rows, *names = sys.argv[1:]
    data = benchmark.load_folder(folder, hold_out=int(n_rows), texts=True)
    for name in names or LOSSES:
        UnifiedTask._loss_of = LOSSES[name]
        model, seconds = fit(data, {}, 0)
        run = {"loss": name, "hold_out": int(n_rows), "fit_cpu_s": seconds}
        for line in measure(model, data, {}):
            benchmark.write_line(run | line)


if __name__ == "__main__":
    main()

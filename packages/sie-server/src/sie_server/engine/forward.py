"""Forward pass of a batch: pack, encode, and read each result off its own rows."""

from typing import Any

import numpy as np

from sie_server.engine.request import Batch
from sie_server.nn.heads import Head
from sie_server.nn.packed import Packed
from sie_server.nn.row_invariance import next_row_count
from sie_server.tokenization.sequence import Lead, Sequence


def forward(batch: Batch) -> list[Any]:
    """Compute one result per sequence: its request's head is applied to its own rows."""
    model = batch.model
    groups = _groups(batch)
    # The lead precedes the first group that needs it: a request may have two turns in one batch.
    due: set[Lead] = {lead for _, lead, _ in groups if lead is not None and not lead.computed}
    leads: list[Lead | None] = []
    sequences: list[Sequence] = []
    for _, lead, group in groups:
        ahead = lead if lead in due else None
        if ahead is not None:
            due.remove(ahead)
            sequences.append(ahead.sequence)
        leads.append(ahead)
        sequences += group
    if model.few_sizes:
        sequences += _rounding_sequence(sum(map(len, sequences)))
    hidden, row_counts = model.encoder(Packed.of(sequences, model.device))
    results: list[Any] = []
    row = first = 0
    for lead, (head, _, group) in zip(leads, groups, strict=True):
        if lead is not None:
            head.observe_lead(hidden[row : row + row_counts[first]])
            lead.computed = True
            row, first = row + row_counts[first], first + 1
        lengths = row_counts[first : first + len(group)]
        answers = head(hidden[row : row + sum(lengths)], lengths, group)
        assert len(answers) == len(group), f"{head} gave {len(answers)} results for {len(group)} sequences"
        results += answers
        row, first = row + sum(lengths), first + len(lengths)
    return results


def _rounding_sequence(tokens: int) -> list[Sequence]:
    """A sequence without a result, which rounds the rows of a batch up to the next of the few sizes that oneDNN sees.

    oneDNN compiles every product again for each number of rows, at 0.6 MB and 0.7 ms. At most 31 tokens, which fit into
    the positions of any model.
    """
    ids = np.zeros(next_row_count(tokens) - tokens, np.int32)
    return [Sequence(ids, ids)] if len(ids) else []


def _groups(batch: Batch) -> list[tuple[Head, Lead | None, list[Sequence]]]:
    """The batch's sequences by head and lead; those of one head without a lead are a group, whatever their requests."""
    groups: list[tuple[Head, Lead | None, list[Sequence]]] = []
    for request, entries in batch.by_request():
        sequences = [entry.sequence for entry in entries]
        if groups and groups[-1][0] is request.head and groups[-1][1] is request.lead:
            groups[-1][2].extend(sequences)
        else:
            groups.append((request.head, request.lead, sequences))
    return groups

"""Is every range of the source in the sink exactly once? A proof from the journal and the sinks, without Temporal.

The journal says which epochs there were, from which positions to which, and what became of their records
(`ledger`). The sinks say what they hold (`dataflow.seams.Audit`). `prove` compares the two.
"""

from dataflow.proof.proof import LaneProof, Proof, SinkProof, prove

__all__ = ["LaneProof", "Proof", "SinkProof", "prove"]

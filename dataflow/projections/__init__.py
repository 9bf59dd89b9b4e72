"""Read models: what is asked of the journal often, worked out beforehand, thrown away and rebuilt at will.

A projection reads the journal in its order and keeps how far it has come where its rows are, in the same transaction:
every event counts exactly once, however often the projector dies.
"""

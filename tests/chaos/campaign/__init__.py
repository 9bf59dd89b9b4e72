"""Campaigns: a pipeline over real servers while workers, broker and Temporal are killed, and a proof at the end.

    python -m tests.chaos.campaign kafka-to-kafka --messages 1000000 --seed 7 \\
        --worker-kills 20 --freezes 5 --broker-restarts 3 --temporal-restarts 3

The seed chooses the input, the order of the faults and their moments. Kafka and Temporal are servers of the campaign's
own, on free ports. What came out is read by a program that shares no code with DataFlow (`witness.py`) and compared row
by row with what went in, by DuckDB (`verdict.py`). Exit 0: proved; 1: wrong, the evidence is kept; 2: the campaign
itself could not be held as asked.
"""

"""The inbox: a durable, append-only spool in front of sources that cannot be read a second time.

A pushed batch is *staged* first, under a token of the request's own, where no source sees it. The pipeline's workflow
*admits* it: in one transaction the batch gets its place in the pipeline's sequence of records, its id is noted for ever
and the source may read it. What is refused is never admitted, and what is not admitted is never read.

1. A batch id is admitted once: (pipeline, batch id) is a key, never deleted, and checked in the transaction that makes
   the records visible.
2. Admission is repeatable: the same token again finds its own batch there and changes nothing.
3. Offsets number a pipeline's records from 0 without gaps, in the order in which they became visible: admissions of one
   pipeline wait for each other on the row that counts.
4. Records may be forgotten once every sink has committed them; ids may not.
"""

from dataflow.inbox.batch import MAX_BYTES, Batch
from dataflow.inbox.store import Admission, Admitted, Block, Inbox

__all__ = ["MAX_BYTES", "Admission", "Admitted", "Batch", "Block", "Inbox"]

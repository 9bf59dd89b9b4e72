"""The Temporal face of `dataflow.*`: heartbeats and error translation around it, nothing else."""

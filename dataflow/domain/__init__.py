"""The pure heart: values, the pipeline aggregate, its commands and events. No I/O, no Temporal, no Arrow."""

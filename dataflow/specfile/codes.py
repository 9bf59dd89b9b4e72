"""The codes of what can be wrong with a pipeline file. Stable: scripts may rely on them.

Transforms and connectors add their own for what they find in their options (`unknown_column`, `syntax`, ...).
"""

from __future__ import annotations

SYNTAX = "syntax"  # not YAML or JSON
UNREADABLE = "unreadable"  # the file itself: missing, no permission, not UTF-8
DUPLICATE_KEY = "duplicate_key"
UNKNOWN_KEY = "unknown_key"
MISSING_KEY = "missing_key"
WRONG_TYPE = "wrong_type"  # text where a number belongs, a list where a mapping belongs
BAD_VALUE = "bad_value"  # the right type, and not one of the values allowed
OUT_OF_RANGE = "out_of_range"  # a number too small or too large, text or list too short or too long
UNKNOWN_TYPE = "unknown_type"  # no such source, transform or sink
CONFLICT = "conflict"  # two keys, or two names, that exclude each other
BAD_REFERENCE = "bad_reference"  # ${...} that is no ${env:NAME} or ${secret:NAME}, or where none can be
UNRESOLVED = "unresolved_reference"  # a well-formed reference to a name that is not set here
DELIVERY = "delivery"  # the guarantee asked for cannot be had from this sink
PARALLELISM = "parallelism"  # more lanes than this sink takes
SOURCE = "source"  # the source refuses: not found, not readable, empty
SINK = "sink"  # the sink refuses its options
TRANSFORM = "transform"  # a transform refuses its options

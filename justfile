# The doors of the project. Each is one line that works without just as well.

# what there is
default:
    @just --list

# everything that CI checks
check:
    bash scripts/test

# the tests alone; arguments go to pytest: just test tests/unit -k settings
test *arguments="-q":
    bash scripts/test {{ arguments }}

# formatting and lint, mended where that is possible
lint:
    .venv/bin/ruff format .
    .venv/bin/ruff check --fix .
    .venv/bin/lint-imports

# pin the libraries after a change of pyproject.toml
lock:
    bash scripts/lock

# the strict type checker
types:
    .venv/bin/mypy

# run the sample pipeline and show its result
demo:
    bash scripts/demo

# measure against plain Polars; results under bench/results
bench *arguments:
    .venv/bin/python -m bench {{ arguments }}

# the real servers without Docker: just servers up [kafka cassandra elasticsearch postgres redis temporal], down, status
servers *arguments="status":
    .venv/bin/python docker/local {{ arguments }}

# the reference under docs/reference, written again from the code
docs:
    .venv/bin/python -m dataflow.docgen

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
    uv run --locked ruff format .
    uv run --locked ruff check --fix .
    uv run --locked lint-imports

# the strict type checker
types:
    uv run --locked mypy

# run the sample pipeline and show its result
demo:
    bash scripts/demo

# measure against plain Polars; results under bench/results
bench *arguments:
    uv run --locked python -m bench {{ arguments }}

# the real servers without Docker: just servers up [kafka cassandra elasticsearch postgres redis temporal], down, status
servers *arguments="status":
    uv run --locked python docker/local {{ arguments }}

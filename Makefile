# make demo: sets up and runs the main job. make test: sets up, checks, runs the tests. Both work on a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out/demo
NOT_IMPORTED := '/(tests?|testing|transformers/models|_inductor/[a-z_]+|sklearn|pip|pygments|fontTools|mypyc?|narwhals)/'

.PHONY: setup demo test check

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "found Python %d.%d, constraints.txt has pins for 3.11 or later; type: make $(MAKECMDGOALS) PYTHON=python3.11" % sys.version_info[:2])'
	@echo "setting up .venv: packages from PyPI, 2 GB or more on the disk, a minute or more"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[train,video,view,plot,coco,openvino,test]'
	$(BIN)/python -m compileall -q -j 0 -x $(NOT_IMPORTED) .venv/lib  # as pip would, but on every core
	touch $@

demo: setup
	$(BIN)/edgeprune demo --out $(OUT)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports & $(BIN)/mypy && wait $$!

test: check
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --durations=15

# Every target works on a clean clone: the environment is created when needed, and again when the lock file changes.

PYTHON ?= python3
ARGS ?=
LOCKED = $$(sed -n 's/==.*//p' requirements.lock)
LICENCES = --python .venv/bin/python --from=mixed --with-system --packages $(LOCKED)

export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0

.DELETE_ON_ERROR:
.PHONY: help stage4 doctor test browser-test cluster-test corpus chaos lint docs bench reference audit clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

stage4: .venv/.ready  ## Run the placement sweep, then draw its frontier; ARGS="--help" shows its options
	@.venv/bin/python -m sweeps.stage4 $(ARGS); code=$$?; \
	case $$code in 0 | 3) \
		.venv/bin/analysis pareto --experiment stage4 --ask-finalists || { shown=$$?; [ $$shown -eq 1 ] || code=$$shown; } ;; \
	esac; exit $$code  # 1 from pareto: nothing can be shipped yet, which is a result of the sweep

doctor: .venv/.ready  ## Check this machine, or a cluster, with a hint for each failure; ARGS="--help" shows its options
	@.venv/bin/python -m sweeps.doctor $(ARGS)

test: .venv/.ready  ## Run the fast tests: no GPU, no cluster, no browser
	.venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		-m "not slow and not gpu and not cluster and not browser" $(ARGS)

browser-test: .venv/.ready  ## Open the pages in a real Chromium; skipped with a reason where there is none
	.venv/bin/python -m pytest -m browser $(ARGS)

cluster-test: .venv/.ready  ## Raise a cluster of five hosts on this machine and break it; root or user namespaces, else skipped
	tests/cluster/as_root.sh .venv/bin/python -m pytest tests/cluster -m cluster -rs $(ARGS)

corpus: .venv/.ready  ## Plant all known failures, run hundreds of healthy trials, write docs/corpus.md
	.venv/bin/python -m benchmarks.corpus $(ARGS)

chaos: .venv/.ready  ## Let every durable write of a launch fail, resume, compare, write docs/faults.md; ARGS="--only POINT"
	@.venv/bin/python tests/chaos/run.py $(ARGS); code=$$?; .venv/bin/python tests/chaos/page.py && exit $$code

lint: .venv/.ready  ## Check style, format and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

docs: .venv/.ready .venv/.docs  ## Build the documentation into site/, which opens without a network
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict $(ARGS)

bench: .venv/.ready  ## Measure what sharing a base saves, write docs/benchmark.md; ARGS="--help" shows its options
	.venv/bin/python -m benchmarks $(ARGS)

reference: .venv/.ready  ## Write docs/reference/ from the code: settings, commands, metrics, guards, exit codes, Python
	@.venv/bin/python -m benchmarks.reference $(ARGS)

# --strict: pip-audit would otherwise pass packages that it could not look up. huey and skops state no licence in their
# metadata; the licence files that they bring are MIT.
audit: .venv/.ready .audit/.ready  ## Look up the locked packages' known vulnerabilities, write docs/licences.md
	{ echo '# Licences of the dependencies'; echo; \
	  echo '`make audit` writes this table from the metadata of the packages in `requirements.lock`.'; echo; \
	  .audit/bin/pip-licenses $(LICENCES) --format=markdown; } > docs/licences.md
	.audit/bin/pip-licenses $(LICENCES) --ignore-packages huey skops \
		--partial-match --allow-only='MIT;BSD;Apache;PSF;Python Software Foundation;ISC;MPL;Mozilla;LGPL' > /dev/null
	.audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict

clean:  ## Remove the environment, builds and caches; keep runs, mlflow.db and frontiers
	rm -rf .venv .audit site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.docs: .venv/.ready
	.venv/bin/python -m pip install --quiet --constraint requirements.lock --no-build-isolation --editable '.[docs]'
	@touch $@

.audit/.ready: Makefile
	@$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet pip-audit==2.10.1 pip-licenses==5.5.5
	@touch $@

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python must be 3.11 or newer, but \`$(PYTHON)\` is $$($(PYTHON) --version 2>&1)" >&2; \
		echo "hint: make PYTHON=python3.11 (or newer) and the target" >&2; exit 2; }
	@$(PYTHON) -m venv .venv || { \
		echo "hint: on Debian and Ubuntu the module venv is a separate package: apt install python3-venv" >&2; exit 2; }
	.venv/bin/python -m pip install --quiet --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

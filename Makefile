# Set-up needs Python 3.11+ and make; everything lands in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# What JupyterLab writes into each notebook that it saves; it says nothing of the notebook.
LAB_ADDS := codemirror_mode file_extension mimetype nbconvert_exporter pygments_lexer version

.PHONY: install demo test lab lint lock

install: $(READY)

# uv installs the locked packages several times faster than pip; it lives inside the environment.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@! git rev-parse --git-dir >/dev/null 2>&1 || { $(BIN)/nbstripout --install && git config filter.nbstripout.extrakeys \
		"$(patsubst %,metadata.language_info.%,$(LAB_ADDS))"; }
	@touch $(READY)

demo: $(READY)
	$(BIN)/aster demo

test: $(READY)
	$(BIN)/pytest -n auto --dist loadscope --no-loadscope-reorder

# In a container root is all there is; the server listens on this machine alone.
lab: $(READY)
	$(BIN)/jupyter lab --notebook-dir=notebooks --LabApp.app_settings_dir=pipelines/lab \
		--LabApp.extra_labextensions_path=pipelines/lab/extensions $(if $(filter 0,$(shell id -u)),--allow-root)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet -o requirements.lock

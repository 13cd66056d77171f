PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# The demo's model, behaviours, layer and dose, chosen without the questions shown: for the 0.5B on
# contrast pairs held out for it (LOG.md, benchmarks/held_out_pairs.py), for the 1.5B the layer
# where its pairs begin to agree (the table at the end of generate_vectors.py).
MODEL ?= qwen2.5-coder-0.5b
DEMO_BEHAVIORS ?= refusal sycophancy
LAYER_qwen2.5-coder-0.5b := 13
DOSE_qwen2.5-coder-0.5b := 0.3
LAYER_qwen2.5-coder-1.5b := 16
DOSE_qwen2.5-coder-1.5b := 0.2
DEMO_LAYER ?= $(LAYER_$(MODEL))
DEMO_DOSE ?= $(DOSE_$(MODEL))
LAYERS := $(shell seq 0 29)
LM_EVAL := $(VENV)/lm_eval

.PHONY: demo test test-lm-eval fuzz bench bench-equality lint vectors figures clean

# One marker file, touched last: an interrupted installation is made again.
$(VENV)/complete: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.txt
	touch $@

demo: $(VENV)/complete
	$(if $(and $(DEMO_LAYER),$(DEMO_DOSE)),,$(error make demo MODEL=$(MODEL): give DEMO_LAYER=... and DEMO_DOSE=... too))
	$(BIN)/python generate_vectors.py --model $(MODEL) --layers $(DEMO_LAYER) --behaviors $(DEMO_BEHAVIORS) --artifacts_dir $(DEMO)
	$(BIN)/python normalize_vectors.py --artifacts_dir $(DEMO)
	$(BIN)/python prompting_with_steering.py --model $(MODEL) --type ab --layers $(DEMO_LAYER) --doses -$(DEMO_DOSE) 0 $(DEMO_DOSE) --behaviors $(DEMO_BEHAVIORS) --artifacts_dir $(DEMO)
	$(BIN)/python prompting_with_steering.py --model $(MODEL) --type open_ended --limit 2 --max_new_tokens 60 --show_answers 2 --layers $(DEMO_LAYER) --doses -$(DEMO_DOSE) 0 $(DEMO_DOSE) --behaviors $(word 1,$(DEMO_BEHAVIORS)) --artifacts_dir $(DEMO)
	$(BIN)/python plot_results.py --model $(MODEL) --type ab --layers $(DEMO_LAYER) --behaviors $(DEMO_BEHAVIORS) --artifacts_dir $(DEMO)
	$(BIN)/python report.py --model $(MODEL) --behaviors $(DEMO_BEHAVIORS) --artifacts_dir $(DEMO) --out $(DEMO)/report.html

test: $(VENV)/complete
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile tests

# lm-evaluation-harness in an environment above the other one, which stays what requirements.txt says.
$(LM_EVAL)/complete: $(VENV)/complete caa_lm_eval.py
	$(PYTHON) -m venv $(LM_EVAL)
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > $(LM_EVAL)/below
	cp $(LM_EVAL)/below $$($(LM_EVAL)/bin/python -c 'import site; print(site.getsitepackages()[0])')/below.pth
	$(LM_EVAL)/bin/pip install --quiet lm_eval==$$($(BIN)/python -c 'import caa_lm_eval; print(caa_lm_eval.TRIED)')
	touch $@

test-lm-eval: $(LM_EVAL)/complete
	OMP_NUM_THREADS=1 $(LM_EVAL)/bin/python -m pytest tests/harness tests/scripts/test_lm_eval.py

# Many more cases of tests/scripts/test_fuzz.py than the suite tries.
fuzz: $(VENV)/complete
	CAA_FUZZ=5000 $(BIN)/python -m pytest tests/scripts/test_fuzz.py

lint: $(VENV)/complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/arrows.py

bench: $(VENV)/complete
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.finetuning

bench-equality: $(VENV)/complete
	$(BIN)/python -m benchmarks.equality

vectors: $(VENV)/complete
	$(BIN)/python generate_vectors.py --layers $(LAYERS)
	$(BIN)/python normalize_vectors.py

# A figure of every kind on one page, from the committed results and vectors.
figures: $(VENV)/complete
	$(BIN)/python -m benchmarks.contact_sheet

clean:
	rm -rf $(VENV) $(DEMO)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
DEMO_BEHAVIORS := refusal survival-instinct sycophancy
LAYERS := $(shell seq 0 29)
# A small model needs strong steering: here it shows.
STRONG_LAYER := 19

.PHONY: demo test bench bench-equality lint vectors clean

# One marker file, touched last: an interrupted installation is made again.
$(VENV)/complete: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.txt
	touch $@

demo: $(VENV)/complete
	$(BIN)/python generate_vectors.py --layers $(LAYERS) --behaviors $(DEMO_BEHAVIORS) --artifacts_dir $(DEMO)
	$(BIN)/python normalize_vectors.py --artifacts_dir $(DEMO)
	$(BIN)/python prompting_with_steering.py --type ab --layers $(LAYERS) --multipliers -1 0 1 --behaviors $(DEMO_BEHAVIORS) --artifacts_dir $(DEMO)
	$(BIN)/python prompting_with_steering.py --type ab --layers $(STRONG_LAYER) --multipliers -16 -8 -4 0 4 8 16 --behaviors $(DEMO_BEHAVIORS) --artifacts_dir $(DEMO)
	$(BIN)/python plot_results.py --type ab --layers $(STRONG_LAYER) --behaviors $(DEMO_BEHAVIORS) --artifacts_dir $(DEMO)
	$(BIN)/python plot_results.py --type ab --behaviors $(DEMO_BEHAVIORS) --artifacts_dir $(DEMO)

test: $(VENV)/complete
	$(BIN)/python -m pytest tests

lint: $(VENV)/complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/complete
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.finetuning

bench-equality: $(VENV)/complete
	$(BIN)/python -m benchmarks.equality

vectors: $(VENV)/complete
	$(BIN)/python generate_vectors.py --layers $(LAYERS)
	$(BIN)/python normalize_vectors.py

clean:
	rm -rf $(VENV) $(DEMO)

#!/usr/bin/env bash
# The toolkit on one GPU in under eight minutes, with no network: see benchmarks/gpu.py.
#
#   benchmarks/gpu.sh --prepare      once, where npm works: the tokenizer into benchmarks/.tokenizer
#   benchmarks/gpu.sh                on the machine with the GPU, that folder beside it
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
if [ "${1:-}" = --prepare ]; then
    exec "$python" -m benchmarks.llama2_tokenizer "${2:-benchmarks/.tokenizer}"
fi
exec "$python" -m benchmarks.gpu "$@"

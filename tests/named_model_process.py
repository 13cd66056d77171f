"""``python -m named_model_process fetch|convert ROW``: a named model in a process of its own."""

from __future__ import annotations

import json
import sys
from typing import Any

from utils.weights.fetched import gguf_file
from utils.weights.gguf_conversion import named_folder
from utils.weights.named import NamedModel

if __name__ == "__main__":
    fields: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(sys.argv[2]).items()
    }
    print({"fetch": gguf_file, "convert": named_folder}[sys.argv[1]](NamedModel(**fields)))

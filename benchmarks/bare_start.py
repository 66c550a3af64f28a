"""One bare start of one model, without the harness: what `overhead.py` compares a cell with.

python benchmarks/bare_start.py MODEL CACHE
"""

import json
import os
import sys
from pathlib import Path

from matrix.inside.models import MODELS
from matrix.inside.starts import Startup, observe, prepare_environment
from matrix.record.model import Platform


def main() -> None:
    """Start the model in this process, caches in the folder CACHE; print what it observed."""
    model, cache = sys.argv[1], Path(sys.argv[2])
    prepare_environment("data")
    os.environ["VLLM_CACHE_ROOT"] = str(cache / "vllm")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
    platform = Platform(os.environ["MATRIX_PLATFORM"])
    print(json.dumps(observe(Startup(model=MODELS[model], platform=platform))))


if __name__ == "__main__":
    main()

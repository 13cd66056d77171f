"""One page with a figure of every kind, so that a change of any of them can be seen at a glance.

Draws the figures of the committed results and vectors in a folder of their own, and tiles the
first of each kind into docs/figures.png. Kinds that nothing there makes (activations without
./generate_vectors.py --save_activations, figures of several models) are named.

Run: python -m benchmarks.contact_sheet [--drawn FOLDER]
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from utils.files.durable import write_bytes

ROOT = Path(__file__).resolve().parent.parent
SHEET = ROOT / "docs" / "figures.png"
BUNDLED = ("--models", "SmolLM2-135M-Instruct-Q4_1")
QWEN = ("--model", "qwen2.5-coder-1.5b")
COMMANDS: list[tuple[str, ...]] = [
    ("plot_results.py", *QWEN, "--type", "ab"),
    ("plot_results.py", *QWEN, "--type", "ab", "--layers", "18"),
    ("plot_results.py", "--type", "bundled_knowledge", "--behaviors", "refusal"),
    ("plot_results.py", "--type", "bundled_misconceptions", "--behaviors", "refusal"),
    ("analyze_vectors.py", *BUNDLED, "--behaviors", "refusal", "sycophancy", "hallucination"),
]
# The kinds, by patterns below analysis/; of several files the first by name is shown.
KINDS = (
    "refusal/LAYER_SWEEP_*",
    "LAYER_SWEEPS_*",
    "refusal/doses_*",
    "DOSES_*",
    "CHANGES_doses_*",
    "VARIANTS_*",
    "refusal/categories_*bundled_knowledge*",
    "refusal/categories_*bundled_misconceptions*",
    "refusal/PCA_layer=21_*",
    "refusal/PCA_all_layers_model*",
    "refusal/PCA_all_layers_letters_removed*",
    "refusal/variance_*",
    "refusal/separation_*",
    "SEPARATION_*",
    "refusal/similarity_of_layers_*",
    "refusal/pca_of_layers_*",
    "similarity_of_behaviors_model*",
    "similarity_of_behaviors_over_layers_*",
    "norms_*",
    "refusal/finetune_pos_*",
    "refusal/finetune_both_*",
)
COLUMNS, TILE, LABEL, GAP = 5, (440, 370), 16, 8


def draw(root: Path) -> None:
    """Every figure that the committed results and vectors allow, in a root of its own."""
    for folder in ("results", "vectors", "normalized_vectors"):
        if not (root / folder).exists():
            (root / folder).symlink_to(ROOT / folder)
    # those that only a model can make
    for kept in sorted((ROOT / "analysis" / "refusal").glob("*")):
        if kept.name.startswith(("finetune_", "PCA_", "separation_", "variance_")):
            target = root / "analysis" / "refusal" / kept.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(kept, target)
    for kept in (ROOT / "analysis").glob("SEPARATION_*"):
        shutil.copy(kept, root / "analysis" / kept.name)
    commands = [*COMMANDS]
    if (root / "activations").exists():
        commands.append(("plot_activations.py",))
    for script, *flags in commands:
        command = [sys.executable, str(ROOT / script), *flags, "--artifacts_dir", str(root)]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def first_of_each(analysis: Path) -> dict[str, Path | None]:
    """Kind -> the figure to be shown; ``None`` if there is none."""
    found = {kind: sorted(analysis.glob(f"{kind}.png")) for kind in KINDS}
    return {kind: paths[0] if paths else None for kind, paths in found.items()}


def sheet(pictures: Sequence[Path]) -> bytes:
    """The pictures beside one another, each as large as its tile allows, with its name: a PNG."""
    rows = -(-len(pictures) // COLUMNS)
    width, height = TILE[0] + GAP, TILE[1] + LABEL + GAP
    page = Image.new("RGB", (COLUMNS * width + GAP, rows * height + GAP), "white")
    brush = ImageDraw.Draw(page)
    for place, path in enumerate(pictures):
        row, column = divmod(place, COLUMNS)
        left, top = GAP + column * width, GAP + row * height
        name = path.stem.split("_model=")[0]
        brush.text((left, top), name[:64], fill="#000000")
        with Image.open(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail(TILE, Image.Resampling.LANCZOS)
        page.paste(small, (left, top + LABEL))
    buffer = io.BytesIO()
    page.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--drawn", type=Path, help="a root whose analysis/ has been drawn already; draw nothing"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "demo" / "figures", help="root to draw in"
    )
    parser.add_argument("--sheet", type=Path, default=SHEET, help="where to write")
    args = parser.parse_args(arguments)
    root = args.drawn or args.work
    if args.drawn is None:
        root.mkdir(parents=True, exist_ok=True)
        draw(root.resolve())
    found = first_of_each(root / "analysis")
    absent = [kind for kind, path in found.items() if path is None]
    if absent:
        print(f"nothing here makes: {', '.join(absent)}")
    pictures = [path for path in found.values() if path is not None]
    if not pictures:
        print(f"no figures in {root / 'analysis'}", file=sys.stderr)
        return 2
    write_bytes(args.sheet, sheet(pictures))
    print(f"wrote {args.sheet}: {len(pictures)} figures, {args.sheet.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

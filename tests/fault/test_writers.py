"""Every kind of file that is written is damaged in a test, or is declared here with the reason."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.fault.damage import KINDS

ROOT = Path(__file__).parents[2]
FLOORS = ("data", "eigen", "eval", "models", "train", "pipeline", "eigenshape", "demo")
WRITES = {
    *("atomic_path", "atomic_files", "mkstemp", "write_text", "write_bytes", "savefig"),
    *("write_json", "write_table", "write_plain_json", "write_png", "write_mask", "imwrite"),
    *("write_safetensors", "save", "savez", "create", "dump", "touch", "SummaryWriter"),
}
KINDS_OF = {
    "data/coco_results.py": ("objects", "images of objects"),
    "data/png.py": ("mask",),
    "data/pictures.py": ("label map",),
    "data/sazs/splits.py": ("lists of a benchmark",),
    "data/stored_features.py": ("stored features",),
    "data/trees/coco_masks.py": ("label map",),
    "data/weight_files.py": ("weights",),
    "data/zegformer/prepare.py": ("label map",),
    "eigen/store/packed.py": ("features", "Laplacians"),
    "eigen/store/sealed.py": ("eigenvector shard",),
    "eigen/store/shards.py": ("eigenvector shard", "shard manifest.json"),
    "eval/sazs/scores.py": ("scores",),
    "models/clip/text.py": ("weights",),
    "pipeline/cli.py": ("scores",),
    "pipeline/manifest.py": ("manifest.csv",),
    "pipeline/records.py": ("record",),
    "pipeline/requests.py": ("request", "record of a stage"),
    "pipeline/stages/clusters.py": ("clusters", "label map"),
    "pipeline/stages/demo_sazs.py": ("scores",),
    "pipeline/stages/demo_zegformer.py": ("scores",),
    "pipeline/stages/index.py": ("quarantine.csv", "provenance.json"),
    "pipeline/stages/lists.py": ("lists of a benchmark",),
    "pipeline/stages/masks.py": ("mask", "list of masks"),
    "pipeline/stages/names.py": ("objects", "images of objects", "label map"),
    "pipeline/stages/segments.py": ("features of segments", "label map of segments"),
    "pipeline/stages/shard.py": ("eigenvector shard", "features", "Laplacians"),
    "pipeline/stages/words.py": ("packaged words", "label map"),
    "train/checkpoint.py": ("checkpoint",),
    "train/engine.py": ("checkpoint", "weights"),
    "train/history.py": ("history of a training run",),
    "train/unread.py": ("quarantine of a training run",),
    "train/zegformer/evaluate.py": ("scores",),
}
"""Kinds of files that a module writes, of `tests.fault.damage`."""
NOT_READ = {
    "data/files.py": "writes for the others",
    "data/sealed.py": "writes for the others",
    "data/synthetic/samples.py": "images: verify compares their SHA-256 with the shards'",
    "data/synthetic/world.py": "images as above; lists and tables in the formats of others",
    "demo/demo.py": "label maps and videos for people",
    "eval/objects/segment_clusters.py": "centres, which nothing of ours reads",
    "eval/predict.py": "overlays, label maps and JSON for people",
    "eval/report/page.py": "a page for people",
    "eval/report/thumbnails.py": "images within a page",
    "eval/zegformer/classes.py": "a table within a checkpoint",
    "eval/zegformer/scoring.py": "predictions for other programs",
    "pipeline/data_commands.py": "text embeddings, a plain array of the user's, as those it reads",
    "pipeline/gpu.py": "an empty file that is locked",
    "pipeline/mask_files.py": "empty files, whose names count",
    "pipeline/stages/photos.py": "an empty file",
    "train/curves.py": "a figure for people",
    "train/launch.py": "read at once by the process that started the writer",
    "train/zegformer/train.py": "settings for people; a checkpoint holds those that count",
}


def writers() -> set[str]:
    """Modules with a call that writes a file."""
    found = set()
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*.py"):
            calls = (node for node in ast.walk(ast.parse(path.read_text())) if _writes(node))
            if any(calls):
                found.add(str(path.relative_to(ROOT)))
    return found


def _writes(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    modes = [part.value for part in node.args if isinstance(part, ast.Constant)]
    opens = name in ("open", "fdopen") and any(str(mode)[:1] in "wax" for mode in modes if mode)
    return name in WRITES or opens or "r+b" in modes


def test_every_module_that_writes_files_is_declared():
    assert writers() == KINDS_OF.keys() | NOT_READ.keys()
    assert not KINDS_OF.keys() & NOT_READ.keys()


def test_every_declared_kind_is_damaged():
    declared = {kind for kinds in KINDS_OF.values() for kind in kinds}
    damaged = {kind.name for kind in KINDS}
    of_version_1 = {name for name in damaged if name.endswith("version 1")}
    assert declared == damaged - of_version_1

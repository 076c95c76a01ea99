"""JSON Schemas of a run's files, written into docs/schemas/ from the classes that read and write these files.

python scripts/schemas.py            # write the schemas
python scripts/schemas.py --check    # change nothing; exit 1 if a schema is out of date
"""

import argparse
import json
from pathlib import Path

from pydantic import TypeAdapter

from fv.config import Config
from fv.data.snapshot import Snapshot
from fv.evaluation.eval_summary import EvalSummary
from fv.runs.records import AieRecord, AnalysisRecord, SeedsRecord, Step6Record, StepDRecord, StepERecord

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "schemas"
FILES: dict[str, type] = {
    "config": Config,
    "sampled_trials": Snapshot,
    "stepD_meta": StepDRecord,
    "fv_global_resid_meta": StepERecord,
    "fv_meta": AieRecord,
    "eval_meta": Step6Record,
    "eval_summary": EvalSummary,
    "analysis_meta": AnalysisRecord,
    "over_seeds": SeedsRecord,
}
"""{file of a run without its suffix, or `config` for the settings in all records: its class}."""


def schemas() -> dict[Path, str]:
    """Make {file: its schema as text}."""
    return {
        FOLDER / f"{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, kind in FILES.items()
        for schema in [TypeAdapter(kind).json_schema(mode="serialization")]
    }


def main() -> int:
    """Write or check all schemas."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a schema is out of date")
    if parser.parse_args().check:
        old = [path.name for path, text in schemas().items() if not path.exists() or path.read_text("utf-8") != text]
        print(f"Out of date: {', '.join(old)}. `make schemas` writes them." if old else "All schemas are up to date.")
        return bool(old)
    FOLDER.mkdir(exist_ok=True)
    for path, text in schemas().items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

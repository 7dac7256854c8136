"""Write the JSON Schema and the reference page of `x-nself-deploy` from the types that read it.

python tools/gen_schema.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from nself_deploy.core.schema import reference_text, schema_text  # noqa: E402 - the path comes first

REFERENCE = ROOT / "docs" / "reference"


def main() -> None:
    """Write both files."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    (REFERENCE / "x-nself-deploy.schema.json").write_text(schema_text(), encoding="utf-8")
    (REFERENCE / "configuration.md").write_text(reference_text(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Export models and let the official validator of the BioImage Model Zoo check and run them (extra bioimageio).

python scripts/check_bioimageio.py [ID …]    all models that can be exported, unless named
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.bioimageio import export_bioimageio
from napari_cellenhance.zoo.manifest import list_models


def check(model_id: str, folder: Path) -> bool:
    """Whether the validator accepts a model's package and gets the same pixels."""
    from bioimageio.core import test_description
    from bioimageio.spec import InvalidDescr, load_description

    try:
        path = export_bioimageio(model_id, folder)
    except ParameterError as error:
        print(f"{model_id}: not exported: {error}")
        return True
    described = load_description(path)
    if isinstance(described, InvalidDescr):
        print(described.validation_summary.format())
        return False
    summary = test_description(described, weight_format="torchscript", determinism="seed_only")
    print(f"{model_id}: {summary.status}")
    for detail in summary.details:
        for error in detail.errors:
            print(f"  {error.loc}: {error.msg}")
    return bool(summary.status == "passed")


def main() -> None:
    """Check every model; the exit code is 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", nargs="*")
    wanted = parser.parse_args().ids or [card.id for card in list_models() if card.file.url is not None]
    with tempfile.TemporaryDirectory() as folder:
        results = [check(model_id, Path(folder)) for model_id in wanted]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()

"""``cellenhance doctor``: what this computer can do."""

from __future__ import annotations

import typer

from napari_cellenhance.cli.words import Debug, Device, Json, Precision, ProgressLine, leave, print_json
from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = ["doctor"]

_ENHANCE = EnhanceRequest(image=None, axes="")


def doctor(
    as_json: Json = False,
    device: Device = _ENHANCE.device,
    precision: Precision = _ENHANCE.precision,
    debug: Debug = False,
) -> None:
    """Check this computer, and enhance a test image."""
    from napari_cellenhance.workflows import doctor as surgery

    with ProgressLine(as_json) as line:
        found = surgery.run(device=device, precision=precision, on_progress=line.show)
    if as_json:
        print_json(found.to_dict())
    else:
        topic = ""
        for finding in found.findings:
            if finding.topic != topic:
                topic = finding.topic
                typer.echo(topic)
            mark = "!!" if finding.is_problem else "  "
            typer.echo(f"{mark} {finding.name:<20} {finding.value}")
            if finding.advice:
                typer.echo(f"   {'':<20} → {finding.advice}")
        n = len(found.problems)
        typer.echo("All is well." if not n else f"{n} problem{'s' if n > 1 else ''}, marked with !!")
    leave(is_failed=not found.is_healthy)

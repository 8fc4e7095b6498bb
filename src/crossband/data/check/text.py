"""The report of `data check` as text: counts by kind, then the first findings of each kind."""

from __future__ import annotations

from pathlib import Path

from crossband.data.check.findings import KINDS, Finding
from crossband.data.check.run import Report

#: Findings of one kind that are printed; the page and the JSON file have all.
SHOWN = 5


def text(report: Report) -> str:
    """Return the report as text."""
    blocks = [summary(report)]
    if report.findings:
        width = max(map(len, report.counts))
        blocks.append(
            "\n".join(
                f"{n:7}  {kind:{width}}  {KINDS[kind].title}" for kind, n in report.counts.items()
            )
        )
    for kind in report.counts:
        mine = [f for f in report.findings if f.kind == kind]
        lines = [f"{KINDS[kind].severity} {kind}: {KINDS[kind].title}"]
        for finding in mine[:SHOWN]:
            lines.append(f"  {_where(finding)}{finding.text}")
        if len(mine) > SHOWN:
            lines.append(f"  and {len(mine) - SHOWN} more")
        lines.append(f"  > {KINDS[kind].cure}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def summary(report: Report) -> str:
    """Return the report in one line."""
    suspicions = sum(f.severity == "suspicion" for f in report.findings)
    findings = len(report.findings) - suspicions
    rate = len(report.table) / max(report.seconds, 1e-9)
    sides = "" if "split" in report.table.columns else "; no split, so nothing on its sides"
    return (
        f"{report.manifest}: {_count(len(report.table), 'row')}, {_count(report.files, 'file')}, "
        f"{report.seconds:.1f} s ({rate:.0f} rows/s): {_count(findings, 'finding')}, "
        f"{_count(suspicions, 'suspicion')}{sides}"
    )


def _where(finding: Finding) -> str:
    """Return row, side and file; the text of a finding on several rows has them already."""
    if len(finding.rows) > 1:
        return ""
    return f"row {finding.rows[0]}, {finding.side}, {Path(finding.file).name}: "


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'s' * (n != 1)}"

"""Check a manifest against its files: report what is wrong, and change nothing."""

from crossband.data.check.bands import Bands
from crossband.data.check.findings import KINDS, Finding, FindingKind
from crossband.data.check.rules import Limits
from crossband.data.check.run import Report, check, usable_rows

__all__ = ["KINDS", "Bands", "Finding", "FindingKind", "Limits", "Report", "check", "usable_rows"]

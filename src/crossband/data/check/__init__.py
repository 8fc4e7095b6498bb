"""Is the data what the manifest says? Reports; changes and guesses nothing."""

from crossband.data.check.facts import Bands
from crossband.data.check.findings import KINDS, Finding, Kind
from crossband.data.check.rules import Limits
from crossband.data.check.run import Report, check, without_spoilt

__all__ = ["KINDS", "Bands", "Finding", "Kind", "Limits", "Report", "check", "without_spoilt"]

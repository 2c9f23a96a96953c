"""Reports: a page for each registration, and one for a group of them."""

from nipype_quicksilver.reports.group import write_group_report
from nipype_quicksilver.reports.single import REPORT, write_registration_report

__all__ = ["REPORT", "write_group_report", "write_registration_report"]

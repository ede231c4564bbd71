"""HTML page of one or several training runs."""

from cnnzoo.html_report.page import report

__all__ = ["report"]

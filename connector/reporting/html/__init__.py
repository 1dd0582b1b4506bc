"""The report as a page with charts: what is gathered for it, each chart, the HTML."""

"""History: a range of dates, brought at the rate limit or within an allowance."""

"""History: read a range of dates, at the rate limit or within an allowance."""

"""Beamer's side: the streams as data, the one client of the API, pages, and lenient parsing of rows."""

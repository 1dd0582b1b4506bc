"""Beamer's side: the streams as data, the one door to the API, pages, and rows parsed leniently."""

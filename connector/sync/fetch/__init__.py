"""Pages are requested, and what each means is decided and written."""

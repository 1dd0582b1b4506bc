"""Plain data and rules: what is known, what was decided, what it means. No I/O."""

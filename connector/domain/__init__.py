"""Plain data and rules: state, decisions, and their meaning. No I/O."""

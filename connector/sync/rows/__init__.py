"""What a page brings: a verdict on each row, and the messages of those that are sent."""

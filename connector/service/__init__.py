"""What people and machines see of the connector: views of its state."""

"""What went wrong, who is told of it, and whether that arrived: conditions, alerts, deliveries."""

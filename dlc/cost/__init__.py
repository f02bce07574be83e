"""What things cost: seconds, bytes and their lower bounds, from a device's profile or its peak figures."""

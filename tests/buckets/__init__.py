"""What a bucket must be: printed, applied, and permitted."""

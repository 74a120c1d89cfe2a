"""What would hurt a run: broken pictures, rows that are too long."""

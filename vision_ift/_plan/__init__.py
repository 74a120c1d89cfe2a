"""What will be delivered: exact counts, the order, budgets, locks."""

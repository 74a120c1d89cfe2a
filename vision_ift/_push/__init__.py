"""To the Hub: a plan's or a table's rows as Parquet, an export as it is, in one commit."""

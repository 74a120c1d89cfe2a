"""What is asked for: the language of recipes, and the rows that an entry takes."""

"""Cards: what a source, a recipe, a table or a repository of the Hub holds, in words and YAML."""

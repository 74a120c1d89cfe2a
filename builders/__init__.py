"""One file is one source, and the file's name is the source's name; ``_name.py`` is shared."""

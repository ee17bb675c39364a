"""Every setting in one row; the command line, TOML files, signatures and docstrings come from it."""

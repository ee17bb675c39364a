"""The file: what it holds, how it is read, written and looked at."""

"""Tests of onnxprune; ``cases.py`` is the table, ``battery.py`` the checks."""

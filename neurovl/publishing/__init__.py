"""Notebooks through papermill, the book made of them, and its checks. May import all rooms but cli, doctor and hub."""

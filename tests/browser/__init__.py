"""The dashboard in Debian's Chromium; not in the plain run: `pytest tests/browser`."""

"""The doors: one outside thing per file; nothing is decided here."""

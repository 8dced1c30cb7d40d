"""The documentation site, and the script that writes its generated pages."""

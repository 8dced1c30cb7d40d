"""What the generated pages of the site are made from."""

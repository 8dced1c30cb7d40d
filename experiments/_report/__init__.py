"""What the scripts of several experiments share: rows of runs, and the section of a document that holds a table."""

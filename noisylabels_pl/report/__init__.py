"""The files and the table that a run leaves: result row, figures, printed table."""

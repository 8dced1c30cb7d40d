"""What a run leaves behind: a result row, a table, a figure."""

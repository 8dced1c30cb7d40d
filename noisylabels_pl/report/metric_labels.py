"""The metrics' names for people, in tables and figures; everywhere else a metric has its short name."""

METRIC_LABELS = {"acc": "accuracy", "r2": "R²"}

"""The names of the metrics in tables and figures; keys of results and of logs have the short names."""

METRIC_LABELS = {"acc": "accuracy", "r2": "R²"}

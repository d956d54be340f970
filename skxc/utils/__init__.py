"""Small helpers shared by every room; nothing here knows an estimator."""

"""Grain pipelines: the endless training stream and the evaluation set. No dataset is ever built."""

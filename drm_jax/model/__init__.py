"""The looped transformer as pure functions of (params, arrays); puzzle rows are arguments."""

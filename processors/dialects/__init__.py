"""One pure module per dialect, and the explicit table of them; nothing registers itself by being imported."""

"""robustvit: how robust is a vision transformer."""

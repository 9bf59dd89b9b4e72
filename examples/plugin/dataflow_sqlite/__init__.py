"""A plug-in in a package of its own: SQLite as source and sink, and a transform. The guide is docs/guide/plugins.md."""

"""`python -m dataflow.docgen [FOLDER]` (`just docs`) writes the generated reference pages."""

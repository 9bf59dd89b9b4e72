"""One module per kind: configuration, class, registration, in that order."""

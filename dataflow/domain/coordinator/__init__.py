"""The coordinator: knows every pipeline and worker, and decides which pipeline may start. Pure, as the pipeline is."""

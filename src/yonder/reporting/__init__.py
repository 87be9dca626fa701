"""From the plain files of a run to tables and one HTML page. Reads files only."""

"""What each kind of stage does: settings and a folder in, files and a result out."""
